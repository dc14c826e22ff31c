//! Requests and answers survive their journey, and garbage is seen to be that.

use super::nested::{Ending, MAX_PIECE_BYTES, Request, Response, round_trip, round_trip_answer};

#[test]
fn what_is_asked_is_what_was_meant() {
    let piece = vec![7; MAX_PIECE_BYTES];
    let requests = [
        Request::Submit { key: 1, priority: -3, retries: 2, bytes: 70_000, name: "fäb", piece: &piece },
        Request::More(u64::MAX, b"more"),
        Request::Look { key: 2, claim: true },
        Request::Look { key: 3, claim: false },
        Request::Read(4, 1 << 40),
        Request::Cancel(5),
        Request::Drop(6),
        Request::Ran(7, None),
        Request::Ran(8, Some(b"why")),
    ];
    for request in requests {
        round_trip(&request);
    }
    for garbage in [&b""[..], &[1; 8], &[99; 30], &[5; 12]] {
        assert_eq!(Request::decode(garbage), None, "{garbage:?}");
    }
}

#[test]
fn what_is_answered_is_what_was_meant() {
    let parts = vec![(0, 5), (64, 1 << 33)];
    let responses = [
        Response::Continue,
        Response::Accepted(9),
        Response::Refused { broken: true, why: "weil".to_owned() },
        Response::Refused { broken: false, why: String::new() },
        Response::Pending(true),
        Response::Pending(false),
        Response::Yours,
        Response::Done { kind: Ending::Failed, bytes: 3, parts, piece: b"{}x".to_vec() },
        Response::Piece(vec![1, 2]),
        Response::Cancelled(true),
        Response::Cancelled(false),
        Response::Unknown,
    ];
    for response in responses {
        round_trip_answer(&response);
    }
}
