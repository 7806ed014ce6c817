//! What a job stores, and where.

use streamctl_proto::spec::{FunctionSpec, SinkKind};
use streamctl_proto::{JobSpec, v1};

/// What is stored, and where. `sink` has what was found of its place.
pub(super) fn stored(spec: &JobSpec, sink: &SinkKind) -> Vec<v1::StoredPlace> {
    let below = format!("{}{}/", spec.checkpoint, spec.name);
    let dead = spec
        .dead_letter
        .as_ref()
        .map_or_else(|| format!("{below}dead-letters/"), ToString::to_string);
    let mut places = vec![
        ("rows", sink.object_names(&spec.name)),
        (
            "dead letters",
            format!("{dead}<window>-{}-<task>-<n>.json.gz", spec.name),
        ),
        ("manifests", format!("{below}epochs/<epoch>-<digest>.json")),
    ];
    if spec.function.as_ref().is_some_and(FunctionSpec::has_code) {
        places.push(("function's code", format!("{below}functions/<code>/")));
    }
    if !spec.lookups.is_empty() {
        let versions = format!("{below}lookups/<lookup>/<version>/");
        places.push(("lookup versions", versions));
    }
    let place = |(what, r#where): (&str, String)| v1::StoredPlace {
        what: what.to_owned(),
        r#where,
    };
    places.into_iter().map(place).collect()
}
