//! Certificates for tests: an authority, and the certificates that it signs.
//!
//! Owns: making them and writing them as files. Does not own: their use.
//! Rule: files are replaced by a rename, certificate first: a program that reads between the two
//! sees a pair that does not match, and must tolerate it.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::path::{Path, PathBuf};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
    name: String,
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct Files {
    pub cert: String,
    pub key: String,
}

impl Authority {
    /// A new authority, whose certificate is `<name>.pem` in the folder.
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no name is a good list of names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("there is randomness");
        let own = params.self_signed(&key).expect("an authority signs itself");
        std::fs::write(folder.join(format!("{name}.pem")), own.pem())
            .expect("the test's folder takes files");
        Self {
            issuer: Issuer::new(params, key),
            folder: folder.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The file of its certificate.
    pub fn file(&self) -> String {
        text(&self.folder.join(format!("{}.pem", self.name)))
    }

    /// A certificate for `<name>`, which is its common name, at 127.0.0.1 and with these DNS names;
    /// replaces the previous one.
    pub fn issue(&self, name: &str, dns: &[&str]) -> Files {
        let names = ["127.0.0.1"]
            .iter()
            .chain(dns)
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).expect("these are names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("there is randomness");
        let signed = params
            .signed_by(&key, &self.issuer)
            .expect("an authority signs");
        let files = [
            (format!("{name}.cert.pem"), signed.pem()),
            (format!("{name}.key.pem"), key.serialize_pem()),
        ];
        for (file, pem) in &files {
            replace(&self.folder.join(file), pem);
        }
        let [cert, key] = files.map(|(file, _)| text(&self.folder.join(file)));
        Files { cert, key }
    }
}

pub fn replace(path: &Path, content: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, content).expect("the test's folder takes files");
    std::fs::rename(&beside, path).expect("a file can be renamed in its folder");
}

fn text(path: &Path) -> String {
    path.to_str()
        .expect("the temporary folder's path is text")
        .to_owned()
}
