//! Access control: a file of names, roles, and digests of tokens.
//!
//! Owns: roles, the table, the identity of a caller. Does not own: which role a method needs
//! (`methods`), refusals (`gate`).
//! Rule: the table contains no credentials: a reader of it gains no access.

use super::SecurityError;
use super::grant::GrantKey;
use super::token::{Proof, TokenDigest};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use streamctl_proto::v1;

pub const ACCESS_ENTRIES_MAX: usize = 1_000;
/// Longest name of an entry.
pub const ACCESS_NAME_CHARS_MAX: usize = 63;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Be a worker: open a session; no permissions of users.
    Worker,
    /// Inspect everything, read results.
    View,
    /// Also start, stop and verify jobs whose data is in S3.
    Operate,
    /// Also start jobs that read and write folders of the machines.
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Worker, Self::View, Self::Operate, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::View => "view",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is no role: view, operate, admin and worker are"))
    }
}

/// The caller, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The entry's name; `None` without authentication.
    pub name: Option<String>,
    /// Its role; `None` without authentication: everything is allowed.
    pub role: Option<Role>,
}

impl Caller {
    /// The caller if no table restricts access.
    pub const ANYBODY: Self = Self {
        name: None,
        role: None,
    };

    /// Whether it has at least this user role.
    pub fn may(&self, least: Role) -> bool {
        self.role
            .is_none_or(|role| role >= least && role != Role::Worker)
    }

    /// Whether it may be a worker.
    pub fn may_work(&self) -> bool {
        self.role.is_none_or(|role| role == Role::Worker)
    }
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub role: Role,
    pub proof: Proof,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessTable {
    entries: Vec<Entry>,
    /// Checks grants; `None`: no grants are accepted.
    grant_key: Option<GrantKey>,
}

/// Whether a program authenticates its callers.
#[derive(Clone, Debug)]
pub enum Policy {
    /// Every connection may do everything.
    Open,
    /// No caller is admitted yet, and why.
    Closed(&'static str),
    Table(AccessTable),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    token: Vec<RawToken>,
    #[serde(default)]
    certificate: Vec<RawCertificate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawToken {
    name: String,
    role: String,
    sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCertificate {
    name: String,
    role: String,
    dns: String,
}

fn bad(problem: String) -> SecurityError {
    SecurityError::new(
        problem,
        "make a line with: streamctl token new --name NAME --role view|operate|admin|worker",
    )
}

impl AccessTable {
    /// Parses the file.
    ///
    /// # Errors
    /// The problem, without the file's content: it may contain a token by mistake.
    pub fn parse(text: &str) -> Result<Self, SecurityError> {
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
            bad(format!(
                "line {} is not one of a file of access: {}",
                line.unwrap_or(1),
                error.message()
            ))
        })?;
        let tokens = raw
            .token
            .into_iter()
            .map(|RawToken { name, role, sha256 }| {
                let digest = TokenDigest::from_hex(&sha256);
                let digest = digest.ok_or_else(|| {
                    bad(format!(
                        "the sha256 of {name:?} has not 64 hexadecimal digits"
                    ))
                })?;
                if digest.same(&TokenDigest::of(b"")) {
                    return Err(bad(format!(
                        "the sha256 of {name:?} is that of nothing: everybody has it"
                    )));
                }
                entry(name, &role, Proof::Token(digest))
            });
        let certificates = raw
            .certificate
            .into_iter()
            .map(|RawCertificate { name, role, dns }| {
                let good = !dns.is_empty()
                    && dns
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
                if !good {
                    return Err(bad(format!("the dns of {name:?} is not a DNS name")));
                }
                entry(name, &role, Proof::Certificate(dns.to_ascii_lowercase()))
            });
        Self::of(tokens.chain(certificates).collect::<Result<_, _>>()?)
    }

    /// From entries.
    ///
    /// # Errors
    /// If there are too many, or two have the same proof.
    pub fn of(entries: Vec<Entry>) -> Result<Self, SecurityError> {
        if entries.len() > ACCESS_ENTRIES_MAX {
            return Err(bad(format!(
                "there are {} entries, the limit is {ACCESS_ENTRIES_MAX}",
                entries.len()
            )));
        }
        let mut seen = BTreeSet::new();
        for Entry { name, proof, .. } in &entries {
            let by = match proof {
                Proof::Token(digest) => digest.to_hex(),
                Proof::Certificate(dns) => dns.clone(),
            };
            if !seen.insert(by) {
                return Err(bad(format!("what {name:?} is known by stands there twice")));
            }
        }
        Ok(Self {
            entries,
            grant_key: None,
        })
    }

    /// Checks grants, if any are accepted.
    pub fn grant_key(&self) -> Option<&GrantKey> {
        self.grant_key.as_ref()
    }

    /// The caller with this proof.
    pub fn by_proof(&self, proof: &Proof) -> Option<Caller> {
        match proof {
            Proof::Token(digest) => self.by_token(digest),
            Proof::Certificate(dns) => self.by_certificate(std::slice::from_ref(dns)),
        }
    }

    /// The entry's proof of a certificate with one of these names.
    pub fn certificate_proof(&self, names: &[String]) -> Option<Proof> {
        self.by_names(names).map(|entry| entry.proof.clone())
    }

    /// The caller with this token; compares every entry, to keep the time constant.
    pub fn by_token(&self, digest: &TokenDigest) -> Option<Caller> {
        let mut found = None;
        for entry in &self.entries {
            if let Proof::Token(known) = &entry.proof
                && known.same(digest)
            {
                found = Some(entry);
            }
        }
        found.map(caller)
    }

    /// The caller with a certificate for one of these names; of several, the one with the highest
    /// role.
    pub fn by_certificate(&self, names: &[String]) -> Option<Caller> {
        self.by_names(names).map(caller)
    }

    fn by_names(&self, names: &[String]) -> Option<&Entry> {
        let named = |entry: &&Entry| match &entry.proof {
            Proof::Certificate(dns) => names.iter().any(|name| name.eq_ignore_ascii_case(dns)),
            Proof::Token(_) => false,
        };
        self.entries
            .iter()
            .filter(named)
            .max_by_key(|entry| entry.role)
    }

    /// What a worker needs to check callers that request rows: no entries of other workers, and the
    /// key to check grants.
    pub fn to_wire(&self, grant_key: &GrantKey) -> v1::Access {
        let people = self
            .entries
            .iter()
            .filter(|entry| entry.role != Role::Worker);
        let entry = |entry: &Entry| {
            let (token_sha256, certificate_dns) = match &entry.proof {
                Proof::Token(digest) => (digest.as_bytes().to_vec(), String::new()),
                Proof::Certificate(dns) => (vec![], dns.clone()),
            };
            v1::AccessEntry {
                name: entry.name.clone(),
                role: entry.role.to_string(),
                token_sha256,
                certificate_dns,
            }
        };
        v1::Access {
            required: true,
            entries: people.map(entry).collect(),
            grant_key: grant_key.as_bytes().to_vec(),
        }
    }
}

impl Policy {
    /// From a controller's message.
    ///
    /// # Errors
    /// If an entry is invalid.
    pub fn from_wire(access: v1::Access) -> Result<Self, String> {
        if !access.required {
            return Ok(Self::Open);
        }
        let entry = |raw: v1::AccessEntry| {
            let role: Role = raw.role.parse()?;
            let proof = match TokenDigest::from_bytes(&raw.token_sha256) {
                Some(digest) => Proof::Token(digest),
                None if !raw.certificate_dns.is_empty() => Proof::Certificate(raw.certificate_dns),
                None => return Err(format!("{:?} is known by nothing", raw.name)),
            };
            Ok(Entry {
                name: raw.name,
                role,
                proof,
            })
        };
        let grant_key = GrantKey::from_bytes(&access.grant_key);
        let entries = access
            .entries
            .into_iter()
            .map(entry)
            .collect::<Result<_, String>>()?;
        let table = AccessTable::of(entries).map_err(|error| error.problem)?;
        Ok(Self::Table(AccessTable { grant_key, ..table }))
    }
}

fn entry(name: String, role: &str, proof: Proof) -> Result<Entry, SecurityError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if name.is_empty() || name.len() > ACCESS_NAME_CHARS_MAX || !name.chars().all(fits) {
        return Err(bad(format!(
            "a name has 1 to {ACCESS_NAME_CHARS_MAX} letters, digits, `-`, `_`, `.` and `@`"
        )));
    }
    let role = role.parse().map_err(bad)?;
    Ok(Entry { name, role, proof })
}

fn caller(entry: &Entry) -> Caller {
    Caller {
        name: Some(entry.name.clone()),
        role: Some(entry.role),
    }
}

/// The line of a new token for the file.
///
/// # Errors
/// If the name is invalid.
pub fn line_for(name: &str, role: Role, digest: TokenDigest) -> Result<String, SecurityError> {
    entry(name.to_owned(), role.as_str(), Proof::Token(digest))?;
    Ok(format!(
        "[[token]]\nname = \"{name}\"\nrole = \"{role}\"\nsha256 = \"{}\"\n",
        digest.to_hex()
    ))
}

#[cfg(test)]
mod tests {
    use super::super::Token;
    use super::super::grant::Granter;
    use super::*;

    #[test]
    fn a_line_that_was_made_lets_its_token_in_and_no_other() {
        let token = Token::generate().unwrap();
        let other = Token::generate().unwrap();
        let text = line_for("ci", Role::Operate, token.digest()).unwrap();
        let table = AccessTable::parse(&text).unwrap();
        let caller = table.by_token(&token.digest()).unwrap();
        assert_eq!(
            caller,
            Caller {
                name: Some("ci".into()),
                role: Some(Role::Operate)
            }
        );
        assert_eq!(table.by_token(&other.digest()), None);
        assert!(!text.contains(token.reveal()));
    }

    #[test]
    fn roles_of_people_rise_and_a_workers_is_apart() {
        let of = |role| Caller {
            name: None,
            role: Some(role),
        };
        assert!(of(Role::Admin).may(Role::View) && of(Role::Operate).may(Role::Operate));
        assert!(!of(Role::View).may(Role::Operate) && !of(Role::Operate).may(Role::Admin));
        assert!(
            of(Role::Worker).may_work()
                && !of(Role::Worker).may(Role::View)
                && !of(Role::Admin).may_work()
        );
        assert!(Caller::ANYBODY.may(Role::Admin) && Caller::ANYBODY.may_work());
    }

    #[test]
    fn a_certificate_is_known_by_a_name_in_it() {
        let text = "[[certificate]]\nname = \"w\"\nrole = \"worker\"\ndns = \"Worker.internal\"\n";
        let table = AccessTable::parse(text).unwrap();
        assert!(
            table
                .by_certificate(&["x".into(), "worker.INTERNAL".into()])
                .unwrap()
                .may_work()
        );
        assert_eq!(table.by_certificate(&["worker.internal.evil".into()]), None);
    }

    #[test]
    fn a_wrong_file_is_refused_without_showing_it() {
        let secret = Token::generate().unwrap();
        let digest = "a".repeat(64);
        let texts = [
            format!(
                "[[token]]\nname = \"a\"\nrole = \"view\"\nsha256 = \"{}\"",
                secret.reveal()
            ),
            format!("[[token]]\nname = \"a\"\nrole = \"root\"\nsha256 = \"{digest}\""),
            format!(
                "[[token]]\nname = \"a\"\nrole = \"view\"\ntoken = \"{}\"",
                secret.reveal()
            ),
            format!("[[token]]\nname = \"a b\"\nrole = \"view\"\nsha256 = \"{digest}\""),
            ["view", "admin"]
                .map(|role| line_for("a", role.parse().unwrap(), secret.digest()).unwrap())
                .concat(),
            "token = 1".into(),
            line_for("a", Role::View, TokenDigest::of(b"")).unwrap(),
        ];
        for text in texts {
            let reported = AccessTable::parse(&text).unwrap_err().to_string();
            assert!(
                reported.contains("hint: ") && !reported.contains(secret.reveal()),
                "{reported}"
            );
        }
    }

    #[test]
    fn what_a_worker_receives_admits_the_same_users_and_no_worker() {
        let [person, joins] = [(); 2].map(|()| Token::generate().unwrap());
        let text = line_for("p", Role::View, person.digest()).unwrap()
            + &line_for("w", Role::Worker, joins.digest()).unwrap()
            + "[[certificate]]\nname = \"c\"\nrole = \"view\"\ndns = \"people\"\n";
        let granter = Granter::new().unwrap();
        let wire = AccessTable::parse(&text)
            .unwrap()
            .to_wire(granter.public_key());
        let Policy::Table(table) = Policy::from_wire(wire).unwrap() else {
            panic!("a table was sent")
        };
        assert!(table.by_token(&person.digest()).unwrap().may(Role::View));
        assert_eq!(table.grant_key(), Some(granter.public_key()));
        assert_eq!(table.by_token(&joins.digest()), None);
        assert!(table.by_certificate(&["people".into()]).is_some());
        assert!(matches!(
            Policy::from_wire(v1::Access::default()),
            Ok(Policy::Open)
        ));
        let nothing = v1::AccessEntry {
            role: "view".into(),
            ..Default::default()
        };
        assert!(
            Policy::from_wire(v1::Access {
                required: true,
                entries: vec![nothing],
                grant_key: vec![]
            })
            .is_err()
        );
    }
}
