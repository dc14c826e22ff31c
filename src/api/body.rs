//! Taking a JSON body: bounded in bytes and time, with errors that say what is wrong.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::State;
use super::door::Front;
use super::error::ApiError;

/// How long a whole body may take. 64 MiB in a minute is a slow DSL line; on loopback it is a client that sleeps.
const BODY_LIMIT: Duration = Duration::from_secs(60);

/// A JSON body, parsed.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Arc<State>> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &Arc<State>) -> Result<Self, ApiError> {
        let bytes = read(request, state.max_body, state.door.front).await?;
        let length = bytes.len();
        let parse = move || serde_json::from_slice(&bytes).map_err(|_| explained::<Object<T>>(&bytes));
        let parsed = state.heavy.run(length, parse).await?;
        parsed.map(|Object(parsed)| Self(parsed)).map_err(ApiError::bad_request)
    }
}

/// What is wrong with a body that is not what was expected, and where. Read once more for that: who is right need not wait.
fn explained<T: DeserializeOwned>(bytes: &[u8]) -> String {
    let found: Result<T, _> =
        serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_slice(bytes));
    let place =
        found.err().map(|error| (error.path().to_string(), in_words(&error.into_inner().to_string())));
    match place {
        Some((path, error)) if path != "." => format!("the body is not the JSON expected: {path}: {error}"),
        Some((_, error)) => format!("the body is not the JSON expected: {error}"),
        None => "the body is not the JSON expected: there is more after its end".to_owned(),
    }
}

/// What types of Rust's are called elsewhere.
const NUMBERS: [(&str, &str); 6] = [
    ("expected u16", "expected a whole number from 0 to 65535"),
    ("expected u32", "expected a whole number from 0 to 4294967295"),
    ("expected u64", "expected a whole number, 0 or more"),
    ("expected i32", "expected a whole number from -2147483648 to 2147483647"),
    ("expected f64", "expected a number"),
    ("floating point", "number"),
];

fn in_words(error: &str) -> String {
    NUMBERS.iter().fold(error.to_owned(), |text, (ours, theirs)| text.replace(ours, theirs))
}

/// A JSON object as `T`. What serde derives would take an array of the fields as well.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Fields(std::marker::PhantomData))
    }
}

/// The body's bytes, unless there are too many or they come too slowly.
async fn read(request: Request, limit: usize, front: Front) -> Result<Bytes, ApiError> {
    let announced =
        request.headers().get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|bytes: u64| bytes > limit as u64) {
        return Err(ApiError::too_large(limit, front));
    }
    let collected = Limited::new(request.into_body(), limit).collect();
    match tokio::time::timeout(BODY_LIMIT, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limit, front)),
        Ok(Err(_)) => Err(ApiError::bad_request("the body broke off")),
        Err(_) => Err(ApiError::too_slow()),
    }
}
