//! Secrets, and comparing them without telling by the time it takes how much was right.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::error::ApiError;

/// 256 bits, like Jupyter's and Ray's tokens.
const SECRET_BYTES: usize = 32;

/// Begins what a proof is made of: the same digest, used for something else one day, gives no proofs.
const PROOF_PURPOSE: &[u8] = b"disttask-proof-1";

/// A random secret, in URL-safe text. Its `Debug` shows nothing.
#[derive(Clone)]
pub(super) struct Secret(Arc<str>);

impl Secret {
    pub(super) fn random() -> Result<Self, ApiError> {
        let mut bytes = [0; SECRET_BYTES];
        let mut filled = 0;
        while filled < SECRET_BYTES {
            let got = rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty());
            filled += got.map_err(|_| ApiError::internal("the system has no random numbers"))?;
        }
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes).into()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }

    pub(super) fn share(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// What is kept of a secret that others must show. Digests have one length, so comparing them tells nothing of it.
#[derive(Clone)]
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// See [`super::proof`].
    pub(super) fn prove(&self, host: &[u8], nonce: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any key is long enough");
        for part in [PROOF_PURPOSE, b"\0", host, b"\0", nonce] {
            mac.update(part);
        }
        format!("{:x}", mac.finalize().into_bytes())
    }

    pub(super) fn matches(&self, given: &str) -> bool {
        self.0.ct_eq(&Self::of(given).0).into()
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Digest")
    }
}
