use super::*;
use crate::JobSpec;

fn job(function: &str) -> String {
    format!(
        "name = \"a\"\n[source]\ntype = \"generator\"\n[window]\nsize = \"60s\"\n[function]\n{function}\n\
         [sink]\npath = \"/s\"\n[checkpoint]\nlocation = \"/c\"\n"
    )
}

fn problem(function: &str) -> String {
    JobSpec::parse(&job(function)).unwrap_err().to_string()
}

#[test]
fn a_function_has_defaults_and_needs_no_query() {
    let spec = JobSpec::parse(&job("file = \"transform.py\"")).unwrap();
    assert_eq!(spec.sql, "SELECT * FROM source");
    let function = spec.function.unwrap();
    assert_eq!(function.place, FunctionPlace::File("transform.py".into()));
    assert_eq!(function.name, "process_batch");
    assert_eq!(function.per, Per::Window);
    assert_eq!(function.timeout, Duration::from_secs(30));
    assert_eq!(function.memory_bytes, 1 << 30);
    assert!(!function.network && !function.deterministic);
    assert!(function.schema.is_empty() && function.frame.is_none());
}

#[test]
fn a_function_with_all_keys_is_read_and_shown() {
    let text = "module = \"sales.transform\"\nname = \"run\"\nframe = \"polars\"\nper = \"batch\"\n\
                requirements = \"requirements.txt\"\ntimeout = \"5s\"\nmemory = \"256MiB\"\nnetwork = true\n\
                deterministic = true\non_published = \"copy\"\nschema = { uuid = \"string\", amount = \"decimal(10,2)\" }";
    let function = JobSpec::parse(&job(text)).unwrap().function.unwrap();
    let fields: Vec<String> = function
        .fields()
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let expected = "module=sales.transform name=run frame=polars per=batch requirements=requirements.txt timeout=5s \
                    memory=256MiB network=true deterministic=true on_published=copy schema=uuid string, amount decimal(10,2)";
    assert_eq!(fields.join(" "), expected);
    let stored = serde_json::to_string(&function).unwrap();
    assert_eq!(
        serde_json::from_str::<FunctionSpec>(&stored).unwrap(),
        function
    );
}

#[test]
fn what_names_no_function_is_refused_with_a_hint() {
    let refused = [
        ("name = \"f\"", "does not say where"),
        ("file = \"/etc/x.py\"", "not a path below the folder"),
        ("file = \"../x.py\"", "not a path below the folder"),
        ("file = \"x.sh\"", "not the name of a Python file"),
        ("file = \"x.py\"\nmodule = \"x\"", "named twice"),
        ("module = \"transform.py\"", "a file is named by file"),
        (
            "file = \"x.py\"\nname = \"a-b\"",
            "not the name of a Python function",
        ),
        ("url = \"http://h:1\"", "grpc://host:port"),
        ("url = \"grpc://u:p@h:1\"", "not the address"),
        (
            "url = \"grpc://h:1\"\nrequirements = \"r.txt\"",
            "has its own environment",
        ),
        (
            "file = \"x.py\"\nrequirements = \"uv.toml\"",
            "not a file of requirements",
        ),
        ("file = \"x.py\"\nwheels = \"/wheels/\"", "there are none"),
        (
            "file = \"x.py\"\nrequirements = \"r.txt\"\nwheels = \"wheels/\"",
            "function.wheels",
        ),
        (
            "url = \"grpc://h:1\"\non_published = \"f\"",
            "is not called after publishing",
        ),
        (
            "file = \"x.py\"\nper = \"row\"",
            "is not one of window, batch, key",
        ),
        (
            "file = \"x.py\"\nper = \"key\"",
            "does not name the columns of the key",
        ),
        ("file = \"x.py\"\nby = [\"a\"]", "calls are not per key"),
        ("file = \"x.py\"\nper = \"key\"\nby = []", "names no column"),
        (
            "file = \"x.py\"\nper = \"key\"\nby = [\"a\", \"a\"]",
            "twice",
        ),
        (
            "file = \"x.py\"\nper = \"key\"\nby = [\"a\"]\nframe = \"pyspark\"",
            "cannot be called per key",
        ),
    ];
    for (text, expected) in refused {
        let found = problem(text);
        assert!(found.contains(expected), "{text}: {found}");
        assert!(found.contains("line "), "{text}: {found}");
    }
}

#[test]
fn a_key_and_a_folder_of_wheels_are_read_stored_and_shown() {
    let text = "file = \"t.py\"\nper = \"key\"\nby = [\"customer\", \"day\"]\nrequirements = \"uv.lock\"\n\
                wheels = \"s3://bucket/wheels\"";
    let function = JobSpec::parse(&job(text)).unwrap().function.unwrap();
    assert_eq!(function.per.key_columns(), ["customer", "day"]);
    assert!(function.per.needs_whole_window());
    let fields = function.fields();
    let shown = |key: &str| {
        fields
            .iter()
            .find(|(name, _)| *name == key)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(shown("by"), "customer, day");
    assert_eq!(shown("wheels"), "s3://bucket/wheels/");
    let stored = serde_json::to_string(&function).unwrap();
    assert_eq!(
        serde_json::from_str::<FunctionSpec>(&stored).unwrap(),
        function
    );
}

#[test]
fn requirements_are_made_of_the_files_that_pin_them() {
    let files = |path: &str| Requirements::new(path).unwrap().files();
    assert_eq!(files("requirements.txt"), ["requirements.txt"]);
    let project = ["own/pyproject.toml", "own/uv.lock"];
    assert_eq!(files("own/uv.lock"), project);
    assert_eq!(files("own/pyproject.toml"), project);
    assert_eq!(files("t.py"), ["t.py", "t.py.lock"]);
    assert_eq!(Requirements::new("poetry.lock"), None);
}
