//! The role that each method needs.
//!
//! Owns: the table, which is the only definition. Does not own: who has the role (`access`).
//! Rule: a method that is not here is refused for every caller; a test compares the table with the
//! services' descriptors.

use super::access::{Caller, Role};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// This user role, or a higher one.
    Least(Role),
    Worker,
    /// Either: a worker reads manifests on behalf of callers that request rows.
    WorkerOr(Role),
    /// At least this role, or a grant for a use that needs it. The service compares use and job
    /// with the request.
    Granted(Role),
}

impl Need {
    pub fn met_by(self, caller: &Caller) -> bool {
        match self {
            Self::Least(role) | Self::Granted(role) => caller.may(role),
            Self::Worker => caller.may_work(),
            Self::WorkerOr(role) => caller.may_work() || caller.may(role),
        }
    }
}

const VIEW: Need = Need::Least(Role::View);
const OPERATE: Need = Need::Least(Role::Operate);
const ADMIN: Need = Need::Least(Role::Admin);

/// Every method that our programs serve over gRPC.
pub const METHODS: &[(&str, Need)] = &[
    // A job whose data is in folders of the machines needs `admin`: `Submit` itself checks it
    // (`service::submit`).
    ("/streamctl.v1.Jobs/Submit", OPERATE),
    // Like a dry run of `Submit`, it reads locations that the caller names.
    ("/streamctl.v1.Jobs/Diff", OPERATE),
    // They read places that the caller names, as a submit does.
    ("/streamctl.v1.Jobs/Explain", OPERATE),
    ("/streamctl.v1.Jobs/Preview", OPERATE),
    ("/streamctl.v1.Jobs/GetJob", VIEW),
    ("/streamctl.v1.Jobs/GetJobSpec", VIEW),
    ("/streamctl.v1.Jobs/ListJobVersions", VIEW),
    // Unlike `Diff`, it reads nothing that the caller names.
    ("/streamctl.v1.Jobs/CompareJobVersions", VIEW),
    ("/streamctl.v1.Jobs/GetJobProfile", VIEW),
    ("/streamctl.v1.Jobs/WatchJob", VIEW),
    ("/streamctl.v1.Jobs/ListJobs", VIEW),
    ("/streamctl.v1.Jobs/StopJob", OPERATE),
    ("/streamctl.v1.Jobs/DeleteJob", OPERATE),
    // It decides about committed rows.
    ("/streamctl.v1.Jobs/RepairJob", ADMIN),
    ("/streamctl.v1.Jobs/ListEpochs", VIEW),
    ("/streamctl.v1.Jobs/GetEpoch", Need::WorkerOr(Role::View)),
    ("/streamctl.v1.Jobs/ReplayDeadLetters", OPERATE),
    ("/streamctl.v1.Jobs/ListWorkers", VIEW),
    ("/streamctl.v1.Jobs/GetJobHistory", VIEW),
    ("/streamctl.v1.Jobs/GetWorker", VIEW),
    ("/streamctl.v1.Jobs/GetScaling", VIEW),
    ("/streamctl.v1.Jobs/ListEvents", VIEW),
    // Who may send a job file may learn what it waits for.
    ("/streamctl.v1.Jobs/ListWaits", OPERATE),
    // It changes nothing, but reads everything again.
    ("/streamctl.v1.Jobs/Verify", OPERATE),
    ("/streamctl.v1.Workers/Session", Need::Worker),
    // Called by KEDA.
    ("/externalscaler.ExternalScaler/IsActive", VIEW),
    ("/externalscaler.ExternalScaler/StreamIsActive", VIEW),
    ("/externalscaler.ExternalScaler/GetMetricSpec", VIEW),
    ("/externalscaler.ExternalScaler/GetMetrics", VIEW),
    ("/arrow.flight.protocol.FlightService/Handshake", VIEW),
    ("/arrow.flight.protocol.FlightService/ListFlights", VIEW),
    ("/arrow.flight.protocol.FlightService/GetFlightInfo", VIEW),
    ("/arrow.flight.protocol.FlightService/PollFlightInfo", VIEW),
    ("/arrow.flight.protocol.FlightService/GetSchema", VIEW),
    (
        "/arrow.flight.protocol.FlightService/DoGet",
        Need::Granted(Role::View),
    ),
    ("/arrow.flight.protocol.FlightService/DoPut", OPERATE),
    ("/arrow.flight.protocol.FlightService/DoExchange", OPERATE),
    // A verification or a repair: the controller requests it.
    (
        "/arrow.flight.protocol.FlightService/DoAction",
        Need::Granted(Role::Operate),
    ),
    ("/arrow.flight.protocol.FlightService/ListActions", VIEW),
    ("/grpc.health.v1.Health/Check", VIEW),
    ("/grpc.health.v1.Health/List", VIEW),
    ("/grpc.health.v1.Health/Watch", VIEW),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        VIEW,
    ),
    (
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        VIEW,
    ),
];

/// The need of a path; `None`: the method does not exist.
pub fn need(path: &str) -> Option<Need> {
    METHODS
        .iter()
        .find(|(known, _)| *known == path)
        .map(|(_, need)| *need)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use std::collections::BTreeSet;

    fn paths(descriptors: &[u8]) -> BTreeSet<String> {
        let set = prost_types::FileDescriptorSet::decode(descriptors).unwrap();
        let services = set
            .file
            .iter()
            .flat_map(|file| file.service.iter().map(move |service| (file, service)));
        let methods = services.flat_map(|(file, service)| {
            let path = move |method: &prost_types::MethodDescriptorProto| {
                format!("/{}.{}/{}", file.package(), service.name(), method.name())
            };
            service.method.iter().map(path)
        });
        methods.collect()
    }

    #[test]
    fn every_method_of_ours_has_its_role_and_no_other_is_there() {
        let served = paths(streamctl_proto::v1::FILE_DESCRIPTOR_SET);
        assert!(served.len() >= 11, "{served:?}");
        let known = METHODS.iter().map(|(path, _)| (*path).to_owned());
        let ours = |path: &String| {
            ["/streamctl.", "/externalscaler."]
                .iter()
                .any(|package| path.starts_with(package))
        };
        let known: BTreeSet<_> = known.filter(ours).collect();
        assert_eq!(known, served);
    }

    #[test]
    fn nothing_is_there_twice_and_nothing_unknown_is_needed() {
        let unique: BTreeSet<_> = METHODS.iter().map(|(path, _)| path).collect();
        assert_eq!(unique.len(), METHODS.len());
        for path in [
            "/streamctl.v1.Jobs/Delete",
            "/streamctl.v1.Jobs/getjob",
            "",
            "/",
            "/streamctl.v1.Jobs/GetJob/",
        ] {
            assert_eq!(need(path), None, "{path}");
        }
    }

    #[test]
    fn the_page_has_the_same_table() {
        let page = include_str!("../../../docs/security.md");
        for (path, need) in METHODS {
            let word = match need {
                Need::Least(role) => role.to_string(),
                Need::Worker => "worker".to_owned(),
                Need::WorkerOr(role) => format!("{role}, worker"),
                Need::Granted(role) => format!("{role}, or a grant"),
            };
            let row = format!("| `{}` | {word} |", &path[1..]);
            assert!(page.contains(&row), "docs/security.md should have: {row}");
        }
    }

    #[test]
    fn roles_do_what_they_are_for_and_not_more() {
        let may = |role, path: &str| {
            need(path).unwrap().met_by(&Caller {
                name: None,
                role: Some(role),
            })
        };
        let [submit, get, session, epoch] = [
            "Jobs/Submit",
            "Jobs/GetJob",
            "Workers/Session",
            "Jobs/GetEpoch",
        ]
        .map(|method| format!("/streamctl.v1.{method}"));
        assert!(
            may(Role::Operate, &submit) && !may(Role::View, &submit) && !may(Role::Worker, &submit)
        );
        assert!(may(Role::View, &get) && !may(Role::Worker, &get));
        assert!(may(Role::Worker, &session) && !may(Role::Admin, &session));
        assert!(may(Role::Worker, &epoch) && may(Role::View, &epoch));
    }
}
