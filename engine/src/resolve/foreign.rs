//! The addresses and roles that a job may make the programs use.
//!
//! Owns: the rule for a stream's endpoint and role, from the job file or the catalog, for the roles
//! of its other places, and for the address of a catalog of tables. Does not own: the caller's identity, S3 locations.
//! Rule: a signed request goes only to the service's own address, to one that the cluster's
//! operator allowed, or to one that a user with the role `admin` named; in plain text it goes only
//! to this machine.

use crate::host::is_loopback;
use std::sync::Arc;
use streamctl_proto::JobSpec;
use streamctl_proto::resolved::StreamAddress;
use streamctl_proto::spec::Problem;

/// Domains of the service's own endpoints.
const SERVICE_DOMAINS: [&str; 3] = ["amazonaws.com", "amazonaws.com.cn", "api.aws"];
/// The names of the service before a region.
const SERVICE_NAMES: [&str; 2] = ["kinesis", "kinesis-fips"];

/// The addresses and roles that a job may name.
#[derive(Clone, Debug, Default)]
pub struct ForeignRule {
    allowed: Arc<[String]>,
    /// The caller does not have the role `admin`: it may name only what is allowed.
    only_allowed: bool,
}

impl ForeignRule {
    /// Endpoints and roles that every caller may name.
    pub fn allowing(values: impl IntoIterator<Item = String>) -> Self {
        Self {
            allowed: values
                .into_iter()
                .map(|value| normal(&value).to_owned())
                .collect(),
            only_allowed: false,
        }
    }

    /// The same rule for a caller without the role `admin`, who may name only what is allowed.
    pub fn without_admin(&self) -> Self {
        Self {
            only_allowed: true,
            ..self.clone()
        }
    }

    /// The problems of a stream's address.
    pub fn check(&self, stream: &StreamAddress) -> Vec<Problem> {
        let endpoint = stream
            .endpoint
            .as_deref()
            .and_then(|endpoint| self.check_endpoint(endpoint));
        let role = stream
            .role_arn
            .as_deref()
            .and_then(|role| self.check_role("source.role_arn", role));
        endpoint.into_iter().chain(role).collect()
    }

    fn check_endpoint(&self, endpoint: &str) -> Option<Problem> {
        if is_of_the_service(endpoint) {
            return None;
        }
        let named = Named {
            field: "source.endpoint",
            of: "of Kinesis",
            sent: "are signed",
        };
        self.check_address(endpoint, &named)
    }

    /// The problem of the address of a catalog of tables; `service`: the AWS service that it should
    /// be.
    pub fn check_catalog(&self, address: &str, service: Option<&str>) -> Option<Problem> {
        if service.is_some_and(|service| is_of(address, &[service])) {
            return None;
        }
        let named = Named {
            field: "sink.uri",
            of: "that the operator allowed",
            sent: "carry credentials and the table's statistics",
        };
        self.check_address(address, &named)
    }

    fn check_address(&self, endpoint: &str, named: &Named) -> Option<Problem> {
        if self.allows(endpoint) {
            return None;
        }
        let plain = endpoint.strip_prefix("http://").map(host_of);
        if plain.is_some_and(|host| !is_loopback(host)) {
            let hint = "write https://, or have the controllers started with --allow-endpoint and this address";
            let message = format!(
                "{endpoint}: requests to it {}, and would go over the network unencrypted",
                named.sent
            );
            return Some(Problem::new(named.field, message, Some(hint.to_owned())));
        }
        self.only_allowed.then(|| {
            let of = named.of;
            let message = format!("{endpoint} is not an address {of}: a job with it needs the role admin");
            let hint = "leave it out, have a user with that role submit the job, or have the controllers started with \
                        --allow-endpoint and this address";
            Problem::new(named.field, message, Some(hint.to_owned()))
        })
    }

    /// The problems of the roles that the job's other places name.
    pub fn check_roles(&self, spec: &JobSpec) -> Vec<Problem> {
        let roles = spec.roles().into_iter();
        roles
            .filter_map(|named| {
                let problem = self.check_role(named.field, named.role_arn)?;
                Some(Problem {
                    part: named.part,
                    ..problem
                })
            })
            .collect()
    }

    fn check_role(&self, field: &str, role: &str) -> Option<Problem> {
        (self.only_allowed && !self.allows(role)).then(|| {
            let message = format!("{role}: a job that assumes another role needs the role admin of streamctl");
            let hint = "have a user with that role submit the job, or have the controllers started with --allow-role \
                        and this role";
            Problem::new(field, message, Some(hint.to_owned()))
        })
    }

    fn allows(&self, value: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == normal(value))
    }
}

/// How a message names an address.
struct Named {
    field: &'static str,
    of: &'static str,
    sent: &'static str,
}

fn normal(value: &str) -> &str {
    value.trim_end_matches('/')
}

/// The host of the text after a scheme.
fn host_of(rest: &str) -> &str {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(address) => address.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// Whether an address is one of the service's own: `https://kinesis.<region>.amazonaws.com`. VPC
/// endpoints do not count: anyone can create one that leads to their own service.
pub(crate) fn is_of_the_service(endpoint: &str) -> bool {
    is_of(endpoint, &SERVICE_NAMES)
}

fn is_of(endpoint: &str, names: &[&str]) -> bool {
    let Some(host) = endpoint.strip_prefix("https://").map(host_of) else {
        return false;
    };
    let host = host.to_ascii_lowercase();
    let mut labels = host.splitn(3, '.');
    let name = labels.next();
    let region = labels.next();
    let domain = labels.next();
    let plain = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    name.is_some_and(|name| names.contains(&name))
        && region.is_some_and(plain)
        && domain.is_some_and(|domain| SERVICE_DOMAINS.contains(&domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(endpoint: &str, role: &str) -> StreamAddress {
        let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        StreamAddress {
            name: "s".to_owned(),
            arn: None,
            endpoint: given(endpoint),
            region: None,
            role_arn: given(role),
            session_name: None,
        }
    }

    fn fields(rule: &ForeignRule, endpoint: &str, role: &str) -> Vec<String> {
        rule.check(&stream(endpoint, role))
            .into_iter()
            .map(|problem| problem.field)
            .collect()
    }

    #[test]
    fn without_admin_a_job_names_the_service_or_what_is_allowed() {
        let rule = ForeignRule::allowing([
            "https://vpce.example/".to_owned(),
            "arn:aws:iam::1:role/reader".to_owned(),
        ]);
        let operate = rule.without_admin();
        for good in [
            "",
            "https://kinesis.eu-west-1.amazonaws.com",
            "https://kinesis-fips.us-east-1.api.aws:443/",
            "https://vpce.example",
        ] {
            assert!(
                fields(&operate, good, "arn:aws:iam::1:role/reader").is_empty(),
                "{good}"
            );
        }
        for bad in [
            "https://internal.example",
            "http://127.0.0.1:4567",
            "http://169.254.169.254/latest",
            "https://kinesis.eu-west-1.amazonaws.com.evil.example",
            "https://kinesis.evil.example/.amazonaws.com",
            "https://kinesis.vpce-svc-1.eu-west-1.vpce.amazonaws.com",
            "https://evil.example#kinesis.eu-west-1.amazonaws.com",
            "http://kinesis.eu-west-1.amazonaws.com",
        ] {
            assert_eq!(fields(&operate, bad, ""), ["source.endpoint"], "{bad}");
        }
        assert_eq!(
            fields(&operate, "", "arn:aws:iam::1:role/owner"),
            ["source.role_arn"]
        );
    }

    #[test]
    fn without_admin_each_place_of_a_job_names_an_allowed_role() {
        let role = |name: &str| format!("arn:aws:iam::123456789012:role/{name}");
        let text = format!(
            "name = \"a\"\n[source]\ntype = \"kinesis\"\nstream = \"s\"\n\
             catalog = {{ database = \"d\", table = \"t\", role_arn = \"{}\" }}\n\
             [window]\nsize = \"60s\"\n[checkpoint]\nlocation = \"s3://own-bucket/c/\"\n\
             [[lookup]]\nname = \"plain\"\npath = \"s3://own-bucket/l/\"\n\
             [[lookup]]\nname = \"l\"\npath = \"s3://their-bucket/l/\"\nrole_arn = \"{}\"\n\
             [function]\nfile = \"f.py\"\nnetwork = true\ncredentials = \"{}\"\n\
             [sink]\npath = \"s3://their-bucket/out/\"\nrole_arn = \"{}\"\n\
             catalog = {{ database = \"d\", table = \"t\", role_arn = \"{}\" }}\n",
            role("schema"),
            role("lookup"),
            role("function"),
            role("sink"),
            role("catalog"),
        );
        let spec = JobSpec::parse(&text).unwrap();
        let fields = |rule: &ForeignRule| -> Vec<String> {
            let problems = streamctl_proto::spec::Problems(rule.check_roles(&spec));
            let located = problems.located(&text).0.into_iter();
            located
                .map(|problem| format!("{} {}", problem.line.unwrap(), problem.field))
                .collect()
        };
        let rule = ForeignRule::default();
        assert!(fields(&rule).is_empty(), "admin may name each");
        assert_eq!(
            fields(&rule.without_admin()),
            [
                "5 source.catalog.role_arn",
                "16 lookup.role_arn",
                "20 function.credentials",
                "23 sink.role_arn",
                "24 sink.catalog.role_arn"
            ]
        );
        let all = ["schema", "lookup", "function", "sink"].map(role);
        let rule = ForeignRule::allowing(all).without_admin();
        assert_eq!(fields(&rule), ["24 sink.catalog.role_arn"]);
    }

    #[test]
    fn with_admin_only_plain_text_beyond_this_machine_is_refused() {
        let rule = ForeignRule::allowing(["http://emulator:4567".to_owned()]);
        for good in [
            "http://127.0.0.1:4567",
            "http://[::1]:1/x",
            "http://localhost",
            "https://any.example",
            "http://emulator:4567/",
        ] {
            assert!(
                fields(&rule, good, "arn:aws:iam::1:role/any").is_empty(),
                "{good}"
            );
        }
        assert_eq!(
            fields(&rule, "http://kinesis.internal", ""),
            ["source.endpoint"]
        );
        assert_eq!(
            fields(&rule, "http://127.0.0.1.evil.example", ""),
            ["source.endpoint"]
        );
    }
}
