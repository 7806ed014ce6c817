//! A token: made, read from a file, identified by its digest.
//!
//! Owns: its text, which is never printed. Does not own: its permissions (`access`).
//! Rule: a program that checks a token has only its digest, and compares in constant time.

use super::SecurityError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use tokio_rustls::rustls::crypto::aws_lc_rs;

/// How the text of a grant begins.
pub const GRANT_PREFIX: &str = "streamctl_grant_";
/// Longest grant that is read.
pub const GRANT_CHARS_MAX: usize = 1_024;

/// Begins every token that we make, so that one that was published by mistake is found by a search.
pub const TOKEN_PREFIX: &str = "streamctl_";
/// Random bytes of a token: as many as its digest has.
const TOKEN_RANDOM_BYTES: usize = 32;
/// Shortest valid token: a shorter one could be guessed.
pub const TOKEN_CHARS_MIN: usize = 32;
/// Longest valid token.
pub const TOKEN_CHARS_MAX: usize = 512;

/// A secret that identifies a caller.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(not shown)")
    }
}

impl Token {
    /// A new token.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate() -> Result<Self, SecurityError> {
        let mut bytes = [0; TOKEN_RANDOM_BYTES];
        let filled = aws_lc_rs::default_provider().secure_random.fill(&mut bytes);
        filled
            .map_err(|_| SecurityError::new("this system gives no random numbers", "try again"))?;
        Ok(Self(format!(
            "{TOKEN_PREFIX}{}",
            URL_SAFE_NO_PAD.encode(bytes)
        )))
    }

    /// From the content of a file, without the white space around it.
    ///
    /// # Errors
    /// If it is too short, too long, or contains characters that no header can carry.
    pub fn parse(text: &str) -> Result<Self, SecurityError> {
        let text = text.trim();
        let size = TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX;
        if size.contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()) {
            return Ok(Self(text.to_owned()));
        }
        let problem = format!(
            "this is no token: it has {} characters, or other ones than visible ASCII; \
             {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} are taken",
            text.len()
        );
        Err(SecurityError::new(
            problem,
            "make one: streamctl token new --name NAME --role view",
        ))
    }

    /// From a grant, which is sent like a token.
    ///
    /// # Errors
    /// If it is not a grant.
    pub fn of_grant(text: &str) -> Result<Self, SecurityError> {
        let good = text.starts_with(GRANT_PREFIX)
            && text.len() <= GRANT_CHARS_MAX
            && text.chars().all(|c| c.is_ascii_graphic());
        if good {
            return Ok(Self(text.to_owned()));
        }
        Err(SecurityError::new(
            "this is no grant",
            "it comes with the answer of GetFlightInfo",
        ))
    }

    /// The header's value: `Bearer ...`.
    pub fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// The text itself, for the user who requested a new token.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The digest that identifies it.
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(self.0.as_bytes())
    }
}

/// The SHA-256 of a token: identifies the token without revealing it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    pub fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// From 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digit = |c: u8| (c as char).to_digit(16).map(|digit| digit as u8);
        let bytes = text.as_bytes();
        if bytes.len() != 64 {
            return None;
        }
        let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
        let all: Option<Vec<u8>> = bytes.chunks(2).map(pair).collect();
        Some(Self(all?.try_into().ok()?))
    }

    /// 64 hexadecimal digits.
    pub fn to_hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// Whether both are the same, in a time that does not depend on where they differ.
    pub fn same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({}...)", &self.to_hex()[..8])
    }
}

/// What identifies a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A token of this digest.
    Token(TokenDigest),
    /// A certificate of ours that carries this DNS name.
    Certificate(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_the_same_twice_and_never_printed() {
        let one = Token::generate().unwrap();
        let other = Token::generate().unwrap();
        assert_ne!(one, other);
        assert!(one.reveal().starts_with(TOKEN_PREFIX) && one.reveal().len() >= 50);
        assert!(!format!("{one:?}{:#?}", Some(&one)).contains(&one.reveal()[TOKEN_PREFIX.len()..]));
        assert_eq!(Token::parse(&format!("  {}\n", one.reveal())).unwrap(), one);
    }

    #[test]
    fn a_digest_identifies_its_token_and_reveals_nothing_of_it() {
        let token = Token::generate().unwrap();
        let digest = token.digest();
        assert_eq!(TokenDigest::from_hex(&digest.to_hex()), Some(digest));
        assert_eq!(TokenDigest::from_bytes(digest.as_bytes()), Some(digest));
        assert!(digest.same(&token.digest()) && !digest.same(&Token::generate().unwrap().digest()));
        for bad in ["", "ab", &"g".repeat(64), &"a".repeat(63)] {
            assert_eq!(TokenDigest::from_hex(bad), None, "{bad}");
        }
        // The digest of the file that a person can check with sha256sum.
        let known = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        assert_eq!(TokenDigest::of(b"test").to_hex(), known);
    }

    #[test]
    fn what_is_no_token_is_refused_without_being_shown() {
        for text in [
            "",
            "short-secret",
            &"x".repeat(600),
            &format!("{}\u{e9}{}", "a".repeat(20), "a".repeat(20)),
        ] {
            let reported = Token::parse(text).unwrap_err().to_string();
            assert!(
                reported.contains("hint: make one")
                    && (text.is_empty() || !reported.contains(text)),
                "{reported}"
            );
        }
    }
}
