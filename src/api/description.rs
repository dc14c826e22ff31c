//! What `/openapi.json` says of every path alike: the token, and how the door refuses.

use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, Response};

use super::door::{HEALTH_PATH, PROOF_PATH};

/// The name of the token in the document.
const SCHEME: &str = "token";

/// How the door refuses: where a token is needed, and where none is.
const WITH_TOKEN: [(&str, &str); 2] =
    [("401", "no token, or a wrong one"), ("429", "too many wrong tokens in a second")];
const EVERYWHERE: [(&str, &str); 3] = [
    ("403", "from another site, or a cookie alone for what changes something"),
    ("421", "this Host is not served here"),
    ("431", "the headers are too large"),
];

#[derive(OpenApi)]
#[openapi(info(
    title = "disttask",
    description = "Submit tasks, fetch results, watch the workers. Every request but /healthz and /proof needs the token."
))]
pub(super) struct Description;

/// Add what holds for every path.
pub(super) fn complete(document: &mut Document) {
    env!("CARGO_PKG_VERSION").clone_into(&mut document.info.version);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("See 'disttask token'."));
    let components = document.components.get_or_insert_default();
    components.add_security_scheme(SCHEME, SecurityScheme::Http(bearer.build()));
    document.security = Some(vec![SecurityRequirement::new(SCHEME, [""; 0])]);
    for (path, item) in &mut document.paths.paths {
        let open = path == HEALTH_PATH || path == PROOF_PATH;
        for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
            refuse(operation, &EVERYWHERE);
            if open {
                operation.security = Some(Vec::new());
            } else {
                refuse(operation, &WITH_TOKEN);
            }
        }
    }
}

fn refuse(operation: &mut Operation, refusals: &[(&str, &str)]) {
    for (status, why) in refusals {
        let mut response = Response::new(*why);
        let body = Content::new(Some(Ref::from_schema_name("ErrorBody")));
        response.content.insert("application/json".to_owned(), body);
        operation.responses.responses.insert((*status).to_owned(), response.into());
    }
}
