//! Grants: signed permissions that a controller gives to a caller for requests to workers, in place
//! of the caller's own token.
//!
//! Owns: the content of a grant, signing it, checking it. Does not own: who gets one (the
//! controllers), its transport.
//! Rule: a grant is for one job, one use and a short time. Workers have only the public key: none
//! of them can make one.

use super::token::{GRANT_CHARS_MAX, GRANT_PREFIX, Proof, Token, TokenDigest};
use super::{Role, SecurityError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use streamctl_proto::JobName;
use tokio_rustls::rustls::SignatureScheme;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::sign::SigningKey;

/// Time for which a grant opens calls; a call that it opened goes on.
pub const GRANT_LIFETIME: Duration = Duration::from_secs(600);
/// A private key of Ed25519 in PKCS #8: this, and then its bytes.
const PKCS8_ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const KEY_BYTES: usize = 32;

/// The purpose of a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Use {
    /// Reading the job's rows and dead letters.
    Read,
    Verify,
    /// Computing and staging lost objects of its epochs again.
    Rebuild,
    /// Calling its function without rows.
    Function,
    /// Reading some records of its source, and running its query on them.
    Preview,
    /// Putting the rows of its table's files into fewer ones.
    Rewrite,
}

impl Use {
    /// The role that it gives its holder.
    pub fn role(self) -> Role {
        match self {
            Self::Read => Role::View,
            Self::Verify | Self::Rebuild | Self::Function | Self::Preview | Self::Rewrite => {
                Role::Operate
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    pub job: JobName,
    pub r#use: Use,
    /// Expiry, in milliseconds since the Unix epoch.
    pub until_ms: i64,
    /// The token of its caller: if it is revoked, so is the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_sha256: Option<String>,
    /// The certificate name of its caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_dns: Option<String>,
}

impl Grant {
    /// The proof of its caller; `None`: it is a controller's own.
    pub fn proof(&self) -> Option<Proof> {
        let token = self
            .token_sha256
            .as_deref()
            .and_then(TokenDigest::from_hex)
            .map(Proof::Token);
        token.or_else(|| self.certificate_dns.clone().map(Proof::Certificate))
    }

    /// Whether it has no caller, so that no revoked token ends it.
    pub fn is_a_controllers(&self) -> bool {
        self.token_sha256.is_none() && self.certificate_dns.is_none()
    }
}

/// Makes grants. The key lives as long as the process.
#[derive(Clone)]
pub struct Granter {
    key: Arc<dyn SigningKey>,
    public: GrantKey,
}

#[derive(Clone, PartialEq, Eq)]
pub struct GrantKey([u8; KEY_BYTES]);

impl fmt::Debug for GrantKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GrantKey")
    }
}

impl Granter {
    /// With a new key.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn new() -> Result<Self, SecurityError> {
        let failed = || SecurityError::new("this system makes no keys", "try again");
        let mut secret = [0; KEY_BYTES];
        aws_lc_rs::default_provider()
            .secure_random
            .fill(&mut secret)
            .map_err(|_| failed())?;
        let der = PrivatePkcs8KeyDer::from([&PKCS8_ED25519[..], &secret].concat());
        let key = aws_lc_rs::sign::any_eddsa_type(&der).map_err(|_| failed())?;
        // The public key is the end of its encoded form.
        let form = key.public_key().ok_or_else(failed)?;
        let public = form
            .as_ref()
            .last_chunk::<KEY_BYTES>()
            .copied()
            .ok_or_else(failed)?;
        Ok(Self {
            key,
            public: GrantKey(public),
        })
    }

    pub fn public_key(&self) -> &GrantKey {
        &self.public
    }

    /// A grant for a caller identified by `proof`; `None`: for this controller itself.
    pub fn grant(
        &self,
        job: JobName,
        r#use: Use,
        proof: Option<&Proof>,
        now_ms: i64,
    ) -> Option<Token> {
        let lifetime_ms = i64::try_from(GRANT_LIFETIME.as_millis()).ok()?;
        let (token_sha256, certificate_dns) = match proof {
            None => (None, None),
            Some(Proof::Token(digest)) => (Some(digest.to_hex()), None),
            Some(Proof::Certificate(dns)) => (None, Some(dns.clone())),
        };
        let until_ms = now_ms.saturating_add(lifetime_ms);
        let claims = serde_json::to_vec(&Grant {
            job,
            r#use,
            until_ms,
            token_sha256,
            certificate_dns,
        })
        .ok()?;
        let claims = URL_SAFE_NO_PAD.encode(claims);
        let signer = self.key.choose_scheme(&[SignatureScheme::ED25519])?;
        let signature = signer.sign(claims.as_bytes()).ok()?;
        Token::of_grant(&format!(
            "{GRANT_PREFIX}{claims}.{}",
            URL_SAFE_NO_PAD.encode(signature)
        ))
        .ok()
    }
}

impl GrantKey {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The content of a grant, if it was signed with the matching key. Does not check its expiry.
    pub fn verify(&self, text: &str) -> Option<Grant> {
        if text.len() > GRANT_CHARS_MAX {
            return None;
        }
        let (claims, signature) = text.strip_prefix(GRANT_PREFIX)?.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let known = aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .mapping;
        let (_, algorithms) = known
            .iter()
            .find(|(scheme, _)| *scheme == SignatureScheme::ED25519)?;
        algorithms
            .first()?
            .verify_signature(&self.0, claims.as_bytes(), &signature)
            .ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobName {
        "sales".parse().unwrap()
    }

    #[test]
    fn a_grant_proves_its_purpose_to_its_own_key_alone() {
        let granter = Granter::new().unwrap();
        let other = Granter::new().unwrap();
        let proof = Proof::Token(Token::generate().unwrap().digest());
        let token = granter
            .grant(job(), Use::Read, Some(&proof), 1_000)
            .unwrap();
        let grant = granter.public_key().verify(token.reveal()).unwrap();
        assert_eq!(
            (grant.job.clone(), grant.r#use, grant.until_ms),
            (job(), Use::Read, 601_000)
        );
        assert_eq!(grant.proof(), Some(proof));
        assert_eq!(other.public_key().verify(token.reveal()), None);
        let own = granter.grant(job(), Use::Verify, None, 0).unwrap();
        assert!(
            granter
                .public_key()
                .verify(own.reveal())
                .unwrap()
                .is_a_controllers()
        );
        assert!(token.reveal().len() <= GRANT_CHARS_MAX);
    }

    #[test]
    fn a_grant_that_was_changed_is_none() {
        let granter = Granter::new().unwrap();
        let token = granter.grant(job(), Use::Read, None, 0).unwrap();
        let text = token.reveal();
        let (claims, signature) = text
            .strip_prefix(GRANT_PREFIX)
            .unwrap()
            .split_once('.')
            .unwrap();
        let forged = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap())
            .unwrap()
            .replace("read", "verify");
        let forged = format!(
            "{GRANT_PREFIX}{}.{signature}",
            URL_SAFE_NO_PAD.encode(forged)
        );
        for text in [
            &forged,
            &text[1..],
            &text[..text.len() - 4],
            GRANT_PREFIX,
            "",
            &format!("{text}{}", "A".repeat(2_000)),
        ] {
            assert_eq!(granter.public_key().verify(text), None, "{text}");
        }
    }
}
