//! The security flags of controller and worker, and the requirements before one of them listens on
//! non-loopback addresses.
//!
//! Owns: flags, the rule for addresses beyond loopback, putting the parts together. Does not own:
//! the parts.
//! Rule: an address that others can reach is protected, unless `--insecure` is set.

use super::SecurityError;
use super::accept::{ConfigNow, for_grpc, for_http};
use super::access::{AccessTable, Policy};
use super::dial::{Dialer, DialerFiles};
use super::files::Reloading;
use super::gate::Gate;
use super::same_user;
use super::tls::{self, Pair, ServerTls};
use crate::host::is_loopback;
use clap::Args;
use clap::builder::FalseyValueParser;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// How a program protects its connections. Files are read again when they change.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection security")]
pub struct SecurityFlags {
    /// Certificate chain of this program (PEM); enables TLS
    #[arg(
        long,
        env = "STREAMCTL_TLS_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(
        long,
        env = "STREAMCTL_TLS_KEY",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_key: Option<PathBuf>,
    /// CA certificates for outgoing connections (PEM; default: the system's)
    #[arg(long, env = "STREAMCTL_TLS_CA", value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// CA certificates of clients (PEM); every client must then present a certificate
    #[arg(
        long,
        env = "STREAMCTL_TLS_CLIENT_CA",
        value_name = "FILE",
        requires = "tls_cert"
    )]
    pub tls_client_ca: Option<PathBuf>,
    /// Server name in the certificates of controllers and workers (default: their address)
    #[arg(long, env = "STREAMCTL_TLS_NAME", value_name = "NAME")]
    pub tls_name: Option<String>,
    /// Allow connections to and from other machines without TLS or authentication
    #[arg(long, env = "STREAMCTL_INSECURE", value_parser = FalseyValueParser::new())]
    pub insecure: bool,
}

/// The protection of a program's connections, ready for use. By default there is none, for programs
/// that listen on loopback.
#[derive(Clone, Default)]
pub struct Security {
    tls: Option<ServerTls>,
    access: Access,
    /// For outgoing connections.
    pub dialer: Dialer,
    /// Callers must authenticate, by a certificate or a token; if neither is configured, only this
    /// user is served.
    pub must_authenticate: bool,
}

/// The source of the access table.
#[derive(Clone, Default)]
enum Access {
    /// No authentication.
    #[default]
    Open,
    /// From a file.
    File(Arc<Reloading<Policy>>),
    /// Fixed for the life of the process.
    Fixed(AccessTable),
}

impl SecurityFlags {
    /// Reads all files, and keeps reading them. `access` is the access table, `token` identifies
    /// this program.
    ///
    /// # Errors
    /// If one of them is invalid.
    pub fn open(
        &self,
        access: Option<&PathBuf>,
        token: Option<&PathBuf>,
    ) -> Result<Security, SecurityError> {
        let pair = self
            .tls_cert
            .clone()
            .zip(self.tls_key.clone())
            .map(|(cert, key)| Pair { cert, key });
        let tls = pair
            .as_ref()
            .map(|pair| tls::server(pair, self.tls_client_ca.as_ref(), access.is_some()));
        let tls = tls.transpose()?;
        let access = access.map(|path| access_file(path)).transpose()?;
        if let Some(tls) = &tls {
            tls.keep_fresh();
        }
        if let Some(access) = &access {
            access.keep_fresh();
        }
        let files = DialerFiles {
            ca: self.tls_ca.clone(),
            pair,
            token: token.cloned(),
            peer_name: self.tls_name.clone(),
        };
        let must_authenticate = !self.insecure && self.tls_client_ca.is_none();
        let access = access.map_or(Access::Open, Access::File);
        let security = Security {
            tls,
            access,
            dialer: Dialer::new(files)?,
            must_authenticate,
        };
        security.report_shared_machine();
        Ok(security)
    }

    /// Checks that the listeners are protected as required. `authenticated`: a table identifies the callers.
    ///
    /// # Errors
    /// The missing protection.
    pub fn check_listeners(
        &self,
        listeners: &[(&str, SocketAddr)],
        authenticated: bool,
    ) -> Result<(), SecurityError> {
        let exposed = listeners
            .iter()
            .find(|(_, address)| !address.ip().is_loopback());
        let Some((flag, address)) = exposed.filter(|_| !self.insecure) else {
            return Ok(());
        };
        let reached = format!("{flag} {address} can be reached from other machines");
        if self.tls_cert.is_none() {
            let hint = "give it a certificate (--tls-cert and --tls-key), listen on 127.0.0.1, or set --insecure in a \
                        network that you trust; docs/security.md says how to make one";
            return Err(SecurityError::new(
                format!("{reached}, and its traffic is not encrypted"),
                hint,
            ));
        }
        if self.tls_client_ca.is_none() && !authenticated {
            let hint = "authenticate callers: --access FILE (`streamctl token new` prints its entries), --tls-client-ca FILE for \
                        certificates, or --insecure in a network that you trust";
            return Err(SecurityError::new(
                format!("{reached}, and callers are not authenticated"),
                hint,
            ));
        }
        Ok(())
    }

    /// Checks that outgoing addresses are protected as required.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check_dialled(&self, flag: &str, urls: &[String]) -> Result<(), SecurityError> {
        let plain = |url: &&String| {
            url.strip_prefix("http://")
                .is_some_and(|rest| !is_loopback(host_of(rest)))
        };
        let Some(url) = urls.iter().find(plain).filter(|_| !self.insecure) else {
            return Ok(());
        };
        let hint =
            "write https:// (for etcd: etcds://), or set --insecure in a network that you trust";
        Err(SecurityError::new(
            format!("{flag}: traffic to {url} is not encrypted"),
            hint,
        ))
    }
}

fn host_of(rest: &str) -> &str {
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.chars().all(|c| c.is_ascii_digit()) => host,
        _ => authority,
    }
}

fn access_file(path: &Path) -> Result<Arc<Reloading<Policy>>, SecurityError> {
    Reloading::load("access", vec![path.to_owned()], |contents| {
        let text = std::str::from_utf8(&contents[0]);
        let text = text.map_err(|_| {
            SecurityError::new("is not text", "it is a TOML file; see docs/security.md")
        })?;
        AccessTable::parse(text).map(Policy::Table)
    })
}

impl Security {
    /// Whether its listeners use TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// TLS of a gRPC listener.
    pub fn grpc_tls(&self) -> ConfigNow {
        for_grpc(self.tls.clone())
    }

    /// TLS of an HTTP listener.
    pub fn http_tls(&self) -> ConfigNow {
        for_http(self.tls.clone())
    }

    /// For the programs of one process on loopback: calls need a token of `table`. Pages over HTTP
    /// need none: they are served to the user who runs the process, or to every client if
    /// `shown_to_all` is true.
    pub fn of_one_process(table: AccessTable, dialer: Dialer, shown_to_all: bool) -> Self {
        Self {
            tls: None,
            access: Access::Fixed(table),
            dialer,
            must_authenticate: !shown_to_all,
        }
    }

    /// Without token or certificate authentication, loopback connections are served only for the
    /// user of this process. This is not possible on systems that do not report the user of a
    /// connection.
    pub fn own_user_only(&self) -> bool {
        self.must_authenticate && same_user::is_supported()
    }

    fn report_shared_machine(&self) {
        if self.must_authenticate
            && matches!(self.access, Access::Open)
            && !same_user::is_supported()
        {
            tracing::warn!(
                hint = "on a machine with several users, give the controllers --access (docs/security.md)",
                "this system does not report the user of a loopback connection: without tokens, \
                 all users of this machine are served"
            );
        }
    }

    /// The access policy; follows changes of the file.
    pub fn policy(&self) -> watch::Receiver<Arc<Policy>> {
        match &self.access {
            Access::File(access) => access.subscribe(),
            Access::Fixed(table) => watch::channel(Arc::new(Policy::Table(table.clone()))).1,
            Access::Open => watch::channel(Arc::new(Policy::Open)).1,
        }
    }

    /// Checks callers by the policy.
    pub fn gate(&self) -> Gate {
        let gate = Gate::new(self.policy());
        if self.own_user_only() {
            gate.for_own_user()
        } else {
            gate
        }
    }

    /// Checks viewers of the pages over HTTP.
    pub fn pages_gate(&self) -> Gate {
        match &self.access {
            Access::Open | Access::File(_) => self.gate(),
            // There is no token to present: if the user is not reported, no client is admitted.
            Access::Fixed(_) if self.must_authenticate => Gate::default().for_own_user(),
            Access::Fixed(_) => Gate::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(tls: bool, clients: bool, insecure: bool) -> SecurityFlags {
        let file = |there: bool| there.then(|| PathBuf::from("x"));
        SecurityFlags {
            tls_cert: file(tls),
            tls_key: file(tls),
            tls_client_ca: file(clients),
            insecure,
            ..Default::default()
        }
    }

    #[test]
    fn beyond_loopback_there_is_tls_and_authentication_or_insecure_is_set() {
        let [here, there]: [SocketAddr; 2] =
            ["127.0.0.1:1", "0.0.0.0:1"].map(|text| text.parse().unwrap());
        let check = |flags: SecurityFlags, authenticated| {
            flags.check_listeners(&[("--a", here), ("--listen", there)], authenticated)
        };
        let plain = check(flags(false, false, false), true)
            .unwrap_err()
            .to_string();
        assert!(
            plain.contains("--listen 0.0.0.0:1") && plain.contains("--insecure"),
            "{plain}"
        );
        let unasked = check(flags(true, false, false), false)
            .unwrap_err()
            .to_string();
        assert!(
            unasked.contains("callers are not authenticated") && unasked.contains("--access"),
            "{unasked}"
        );
        for (flags, authenticated) in [
            (flags(true, true, false), false),
            (flags(true, false, false), true),
            (flags(false, false, true), false),
        ] {
            assert!(check(flags, authenticated).is_ok());
        }
        assert!(
            flags(false, false, false)
                .check_listeners(&[("--listen", here)], false)
                .is_ok()
        );
    }

    #[test]
    fn others_are_not_dialled_in_the_clear() {
        let check = |url: &str, insecure| {
            flags(false, false, insecure).check_dialled("--controller", &[url.to_owned()])
        };
        for good in [
            "http://127.0.0.1:7070",
            "http://localhost:1",
            "https://host:1",
            "http://[::1]:1",
        ] {
            assert!(check(good, false).is_ok(), "{good}");
        }
        assert!(
            check("http://host:1", false)
                .unwrap_err()
                .to_string()
                .contains("hint: write https://")
        );
        assert!(check("http://host:1", true).is_ok());
    }
}
