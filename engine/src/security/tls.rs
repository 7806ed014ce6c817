//! Certificates and keys, from PEM to rustls types.
//!
//! Owns: one TLS provider for all, the supported versions and protocols, which clients must send a
//! certificate. Does not own: reading files (`files`), connections (`accept`, `dial`).
//! Rule: no error contains a key's text.

use super::SecurityError;
use super::files::Reloading;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

/// Certificates in one file, at most.
pub const CERTIFICATES_MAX: usize = 1_000;

static PROVIDER: LazyLock<Arc<CryptoProvider>> =
    LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// A certificate and its key, each in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, and its chain.
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// The certificate of a listener, and its requirements for clients.
pub struct ServerConfigs {
    /// For gRPC: clients must send a certificate if client authorities are configured.
    pub grpc: Arc<ServerConfig>,
    /// For HTTP: a client certificate is optional if a token is required.
    pub http: Arc<ServerConfig>,
}

/// The same; follows changes of its files.
pub type ServerTls = Arc<Reloading<ServerConfigs>>;
/// The trusted authorities and certificate of a client; follows changes of the files.
pub type ClientTls = Arc<Reloading<Arc<ClientConfig>>>;

/// A listener that uses `pair`, and requires client certificates signed by `clients`.
///
/// # Errors
/// If a file is invalid, or key and certificate do not match.
pub fn server(
    pair: &Pair,
    clients: Option<&PathBuf>,
    http_may_go_without: bool,
) -> Result<ServerTls, SecurityError> {
    let files = [&pair.cert, &pair.key]
        .into_iter()
        .chain(clients)
        .cloned()
        .collect();
    Reloading::load("certificate of this program", files, move |contents| {
        let clients = contents.get(2).map(|pem| roots(pem)).transpose()?;
        let config = |optional, protocol: &[u8]| -> Result<_, SecurityError> {
            let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER));
            let builder = builder
                .with_safe_default_protocol_versions()
                .map_err(refused)?;
            let builder = match &clients {
                None => builder.with_no_client_auth(),
                Some(roots) => {
                    let provider = Arc::clone(&PROVIDER);
                    let verifier =
                        WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider);
                    let verifier = if optional {
                        verifier.allow_unauthenticated()
                    } else {
                        verifier
                    };
                    builder.with_client_cert_verifier(verifier.build().map_err(refused)?)
                }
            };
            let mut config = builder
                .with_single_cert(chain(&contents[0])?, key(&contents[1])?)
                .map_err(refused)?;
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok(Arc::new(config))
        };
        Ok(ServerConfigs {
            grpc: config(false, b"h2")?,
            http: config(http_may_go_without, b"http/1.1")?,
        })
    })
}

/// A client that trusts the authorities in `ca` (the system's if it is `None`) and uses `pair`.
///
/// # Errors
/// Like [`server`].
pub fn client(ca: Option<&PathBuf>, pair: Option<&Pair>) -> Result<ClientTls, SecurityError> {
    let has_ca = ca.is_some();
    let pair_files = pair
        .map(|pair| [&pair.cert, &pair.key])
        .into_iter()
        .flatten();
    let files = ca.into_iter().chain(pair_files).cloned().collect();
    Reloading::load("certificates for dialling", files, move |contents| {
        let (own, roots) = match has_ca {
            true => (&contents[1..], roots(&contents[0])?),
            false => (contents, system_roots()?),
        };
        client_config(roots, own).map(Arc::new)
    })
}

/// A client that trusts the system's authorities.
///
/// # Errors
/// If the system has none.
pub fn system_client() -> Result<Arc<ClientConfig>, SecurityError> {
    client_config(system_roots()?, &[]).map(Arc::new)
}

fn client_config(
    roots: Arc<RootCertStore>,
    own: &[Vec<u8>],
) -> Result<ClientConfig, SecurityError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER));
    let builder = builder
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&PROVIDER))
        .build()
        .map_err(refused)?;
    let builder = builder.with_webpki_verifier(verifier);
    let mut config = match own {
        [cert, pem] => builder
            .with_client_auth_cert(chain(cert)?, key(pem)?)
            .map_err(refused)?,
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let none = |_| {
        SecurityError::new(
            "holds something that is no certificate",
            "certificates are in PEM format",
        )
    };
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(none)?;
    match all.len() {
        0 => Err(SecurityError::new(
            "holds no certificate",
            "certificates are in PEM format: -----BEGIN CERTIFICATE-----",
        )),
        n if n > CERTIFICATES_MAX => Err(SecurityError::new(
            format!("holds {n} certificates, the limit is {CERTIFICATES_MAX}"),
            "keep those that are needed",
        )),
        _ => Ok(all),
    }
}

fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, SecurityError> {
    // The parser's own error text could contain part of the key.
    let none = |_| {
        SecurityError::new(
            "holds no private key",
            "keys are in PEM format, without a password",
        )
    };
    PrivateKeyDer::from_pem_slice(pem).map_err(none)
}

fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>, SecurityError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(pem)? {
        roots.add(certificate).map_err(refused)?;
    }
    Ok(Arc::new(roots))
}

fn system_roots() -> Result<Arc<RootCertStore>, SecurityError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let hint = "install the package ca-certificates, or name the authority's certificate (--ca, or --tls-ca)";
        return Err(SecurityError::new(
            "this system knows no authority that signs certificates",
            hint,
        ));
    }
    Ok(Arc::new(roots))
}

fn refused(error: impl std::fmt::Display) -> SecurityError {
    let hint =
        "is it the key of this certificate, and is the certificate whole and within its time?";
    SecurityError::new(format!("cannot be used: {error}"), hint)
}

/// The DNS names of a certificate; empty if it cannot be parsed.
pub fn dns_names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else {
        return vec![];
    };
    parsed.valid_dns_names().map(str::to_owned).collect()
}

/// A user's name and password: `name:password` on one line.
///
/// # Errors
/// If it is something else; the error does not contain the content.
pub fn login(content: &[u8]) -> Result<(String, String), SecurityError> {
    let wrong = || {
        SecurityError::new(
            "is not a user's name and password",
            "the file holds one line: name:password",
        )
    };
    let text = std::str::from_utf8(content).map_err(|_| wrong())?;
    let (name, password) = text
        .trim_end_matches(['\r', '\n'])
        .split_once(':')
        .ok_or_else(wrong)?;
    let good = !name.is_empty() && !password.is_empty() && !text.trim_end().contains('\n');
    good.then(|| (name.to_owned(), password.to_owned()))
        .ok_or_else(wrong)
}
