//! What is deployed is what is meant: the chart as helm renders it, the CloudFormation template as
//! cfn-lint reads it, the compose file as YAML.
//!
//! Owns: every value of the chart that `deploy/helm/streamctl/values.yaml` has. Does not own: a
//! cluster, a container engine; there is none.
//! Rule: each rendering is checked against the schemas of Kubernetes; a value that changes nothing
//! fails.

use std::path::PathBuf;
use std::process::Command;
use streamctl_tests::places::{binary, servers_folder};

/// Each value that a user sets, and what must then be in the rendered text (`!`: must not).
const VALUES: &[(&str, &str)] = &[
    ("image.repository=registry/x", "image: \"registry/x:0.1.0\""),
    ("image.tag=v9", "image: \"streamctl:v9\""),
    ("image.pullPolicy=Always", "imagePullPolicy: Always"),
    ("image.pullSecrets[0]=key", "- name: key"),
    ("cluster=sales", "--cluster=sales"),
    ("etcd.endpoints={a:1,b:2}", "--store=etcds://a:1,b:2"),
    ("etcd.tlsSecret=etcd-other", "secretName: etcd-other"),
    ("etcd.clientCertificate=false", "!--etcd-cert"),
    (
        "etcd.loginSecret=etcd-user",
        "--etcd-login-file=/etc/streamctl/etcd-login/login",
    ),
    ("security.insecure=true", "- --insecure"),
    ("security.tls.secret=other", "secretName: other"),
    ("security.tls.name=named", "--tls-name=named"),
    (
        "security.tls.mutual=true",
        "--tls-client-ca=/etc/streamctl/tls/ca.crt",
    ),
    ("security.accessSecret=people", "secretName: people"),
    ("security.joinTokenSecret=joins", "secretName: joins"),
    (
        "serviceMonitor.enabled=true,serviceMonitor.tokenSecret=prom",
        "credentials: { name: prom, key: token }",
    ),
    (
        "serviceMonitor.enabled=true,security.tls.name=named",
        "serverName: named",
    ),
    ("env.AWS_REGION=eu-west-1", "name: AWS_REGION\n"),
    ("logFormat=text", "--log-format=text"),
    ("serviceAccount.create=false", "!kind: ServiceAccount"),
    ("serviceAccount.name=reader", "serviceAccountName: reader"),
    (
        "serviceAccount.roleArn=arn:aws:iam::1:role/r",
        "eks.amazonaws.com/role-arn: \"arn:aws:iam::1:role/r\"",
    ),
    ("controller.replicas=3", "replicas: 3"),
    ("controller.resources.limits.memory=3Gi", "memory: 3Gi"),
    ("controller.extraArgs={--one=1}", "- \"--one=1\""),
    ("worker.replicas=7", "replicas: 7"),
    (
        "worker.terminationGracePeriodSeconds=99",
        "terminationGracePeriodSeconds: 99",
    ),
    ("worker.resources.limits.memory=9Gi", "memory: 9Gi"),
    ("worker.extraArgs={--threads=4}", "- \"--threads=4\""),
    ("autoscaling.mode=hpa", "kind: HorizontalPodAutoscaler"),
    ("autoscaling.mode=keda", "kind: ScaledObject"),
    ("autoscaling.mode=keda", "!  replicas: 2\n  strategy:"),
    (
        "podDisruptionBudget.enabled=false",
        "!kind: PodDisruptionBudget",
    ),
    ("networkPolicy.enabled=false", "!kind: NetworkPolicy"),
    (
        "networkPolicy.clients[0].podSelector.matchLabels.app=x",
        "app: x",
    ),
    ("serviceMonitor.enabled=true", "kind: PodMonitor"),
    ("nodeSelector.disk=fast", "disk: fast"),
    (
        "tolerations[0].key=k,tolerations[0].operator=Exists",
        "operator: Exists",
    ),
    (
        "autoscaling.mode=hpa,autoscaling.minReplicas=3,autoscaling.maxReplicas=33",
        "minReplicas: 3\n  maxReplicas: 33",
    ),
    (
        "autoscaling.mode=hpa,autoscaling.minReplicas=3,autoscaling.maxReplicas=33",
        "--workers-min=3",
    ),
    (
        "autoscaling.mode=keda,autoscaling.minReplicas=0",
        "minReplicaCount: 0\n  maxReplicaCount: 10",
    ),
    (
        "autoscaling.mode=keda,autoscaling.maxReplicas=33",
        "--workers-max=33",
    ),
    (
        "autoscaling.mode=hpa,autoscaling.busyPercent=55",
        "--scale-busy=55",
    ),
    (
        "autoscaling.mode=hpa,autoscaling.scaleOutAfter=9s",
        "--scale-out-after=9s",
    ),
    (
        "autoscaling.mode=hpa,autoscaling.scaleInAfter=9m",
        "--scale-in-after=9m",
    ),
    (
        "autoscaling.mode=hpa,autoscaling.catchUp=9m",
        "--scale-catch-up=9m",
    ),
    (
        "autoscaling.mode=hpa,autoscaling.behavior.scaleDown.stabilizationWindowSeconds=77",
        "stabilizationWindowSeconds: 77",
    ),
    (
        "autoscaling.mode=hpa,autoscaling.hpa.metric=other",
        "name: other",
    ),
    (
        "autoscaling.mode=hpa,autoscaling.hpa.selector.cluster=sales",
        "cluster: sales",
    ),
];

/// Values that do something together only; looked at by tests of their own.
const MONITORED: &str =
    "serviceMonitor.enabled=true,serviceMonitor.interval=7s,serviceMonitor.labels.release=prom";
const FOR_KEDA: &str = "autoscaling.mode=keda,autoscaling.keda.pollingInterval=7,autoscaling.keda.cooldownPeriod=70,\
    autoscaling.keda.authenticationRef=tls,autoscaling.keda.metadata.caCert=x,autoscaling.keda.namespace=scalers,\
    autoscaling.behavior.scaleUp.stabilizationWindowSeconds=5";

fn deploy(name: &str) -> String {
    format!("{}/../deploy/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn tool(name: &str) -> PathBuf {
    let path = servers_folder().join(name);
    assert!(
        path.exists(),
        "{} is missing: run `tests/support/servers.sh tests`, or `make test`",
        path.display()
    );
    path
}

#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(tool(program))
        .args(args)
        .env("HELM_PLUGINS", "/nonexistent")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {args:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// What a user must say before the chart is rendered at all.
const SECRETS: &str = "security.tls.secret=own-tls,security.accessSecret=access,security.joinTokenSecret=join,etcd.tlsSecret=etcd-tls";

fn render(set: &str) -> String {
    let chart = deploy("helm/streamctl");
    let set = format!("{SECRETS},{set}");
    run(
        "helm/helm",
        &["template", "r", &chart, "--set", set.trim_end_matches(',')],
    )
}

/// Why the chart is not rendered.
fn refused(set: &str) -> String {
    let output = Command::new(tool("helm/helm"))
        .args(["template", "r", &deploy("helm/streamctl"), "--set", set])
        .output();
    let output = output.unwrap();
    assert!(!output.status.success(), "{set} is rendered");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_chart_whose_pods_would_not_start_is_not_rendered() {
    let reported = refused("cluster=x");
    assert!(
        reported.contains("security.tls.secret") && reported.contains("security.insecure=true"),
        "{reported}"
    );
    assert!(refused("security.tls.secret=a").contains("security.accessSecret"));
    assert!(
        refused("security.tls.secret=a,security.accessSecret=b")
            .contains("security.joinTokenSecret")
    );
    assert!(refused("security.tls.secret=a,security.tls.mutual=true").contains("etcd.tlsSecret"));
    let chart = deploy("helm/streamctl");
    let open = run(
        "helm/helm",
        &["template", "r", &chart, "--set", "security.insecure=true"],
    );
    assert_eq!(open.matches("- --insecure").count(), 2, "{open}");
    assert!(
        open.contains("--store=etcd://")
            && open.contains("--controller=http://")
            && !open.contains("volumes:"),
        "{open}"
    );
    validate(&open);
}

#[test]
fn a_kubernetes_that_does_not_have_its_kinds_is_refused() {
    let chart = deploy("helm/streamctl");
    let on = |version| {
        let args = [
            "template",
            "r",
            &chart,
            "--set",
            "security.insecure=true",
            "--kube-version",
            version,
        ];
        Command::new(tool("helm/helm")).args(args).output().unwrap()
    };
    let reported = on("1.22.17");
    assert!(!reported.status.success(), "1.22 has no autoscaling/v2");
    let reported = String::from_utf8_lossy(&reported.stderr).into_owned();
    assert!(
        reported.contains("requires kubeVersion: >=1.23"),
        "{reported}"
    );
    assert!(
        on("v1.30.5-eks-4096722").status.success(),
        "versions of EKS have a suffix"
    );
}

/// What the chart gives our programs, they know: each flag stands in the program's own help.
#[test]
fn every_flag_of_the_chart_is_one_of_the_program() {
    let all = "security.tls.mutual=true,security.joinTokenSecret=j,etcd.loginSecret=l,security.insecure=true";
    let rendered = render(all);
    for (program, at) in [
        ("streamctl-controller", "command: [streamctl-controller]"),
        ("streamctl-worker", "command: [streamctl-worker]"),
    ] {
        let help = Command::new(binary(program))
            .arg("--help")
            .output()
            .unwrap();
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let args = rendered
            .split(at)
            .nth(1)
            .unwrap()
            .split("env:")
            .next()
            .unwrap();
        let flags: Vec<_> = args
            .lines()
            .filter_map(|line| line.trim().strip_prefix("- --"))
            .collect();
        assert!(flags.len() >= 10, "{args}");
        for flag in flags {
            let flag = format!("--{}", flag.split('=').next().unwrap());
            assert!(help.contains(&flag), "{program} has no {flag}");
        }
    }
}

fn added(part: &str) -> bool {
    ["apiVersion: monitoring.coreos.com/", "apiVersion: keda.sh/"]
        .iter()
        .any(|api| part.contains(api))
}

/// Against the schemas of Kubernetes; what the Prometheus operator and KEDA add is not among them.
fn validate(rendered: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rendered.yaml");
    let known = rendered
        .split("\n---\n")
        .filter(|part| !added(part))
        .collect::<Vec<_>>();
    std::fs::write(&file, known.join("\n---\n")).unwrap();
    run(
        "deploy/bin/kubernetes-validate",
        &["-k", "1.32", "--strict", file.to_str().unwrap()],
    );
}

#[test]
fn the_chart_as_it_is_runs_without_rights_and_hands_back_in_time() {
    run(
        "helm/helm",
        &["lint", &deploy("helm/streamctl"), "--set", SECRETS],
    );
    let rendered = render("");
    validate(&rendered);
    let twice = |text: &str| assert_eq!(rendered.matches(text).count(), 2, "{text} in {rendered}");
    [
        "readOnlyRootFilesystem: true",
        "runAsNonRoot: true",
        "allowPrivilegeEscalation: false",
        "drop: [ALL]",
        "path: /healthz",
        "path: /readyz",
        "kind: PodDisruptionBudget",
        "replicas: 2",
    ]
    .into_iter()
    .for_each(twice);
    let grace = rendered
        .split("terminationGracePeriodSeconds: ")
        .nth(1)
        .unwrap();
    let grace: u64 = grace.lines().next().unwrap().parse().unwrap();
    // `RELEASE_TIMEOUT` of the worker.
    assert!(
        grace > 20,
        "a worker may take 20 s to hand its shards back, the pod has {grace} s"
    );
}

#[test]
fn every_value_of_the_chart_does_what_it_says() {
    let usual = render("");
    for (set, expected) in VALUES {
        let rendered = render(set);
        assert_ne!(rendered, usual, "{set} changes nothing");
        match expected.strip_prefix('!') {
            Some(absent) => assert!(!rendered.contains(absent), "{set}: {absent} is there"),
            None => assert!(
                rendered.contains(expected),
                "{set}: {expected} is not in {rendered}"
            ),
        }
        validate(&rendered);
    }
    let monitored = render(MONITORED);
    assert!(
        monitored.contains("interval: 7s") && monitored.contains("release: prom"),
        "{monitored}"
    );
}

/// A value that no test sets is one that nobody has seen to work. What Kubernetes takes as it is
/// counts as one value.
#[test]
fn every_value_that_the_chart_has_is_set_by_a_test() {
    const AS_IT_IS: [&str; 6] = [
        "resources",
        "behavior",
        "env",
        "selector",
        "labels",
        "metadata",
    ];
    let mut leaves = vec![];
    collect(
        &yaml("helm/streamctl/values.yaml"),
        "",
        &AS_IT_IS,
        &mut leaves,
    );
    assert!(leaves.len() > 40, "{leaves:?}");
    let sets = VALUES
        .iter()
        .map(|(set, _)| *set)
        .chain([MONITORED, FOR_KEDA]);
    let keys: Vec<&str> = sets
        .flat_map(|set| set.split(','))
        .filter_map(|pair| pair.split('=').next())
        .collect();
    let is_set = |leaf: &String| {
        keys.iter().any(|key| {
            key.strip_prefix(leaf.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    };
    let unset: Vec<_> = leaves.into_iter().filter(|leaf| !is_set(leaf)).collect();
    assert!(unset.is_empty(), "no test sets {unset:?}");
}

/// A file of YAML, its anchors followed.
fn yaml(name: &str) -> serde_json::Value {
    let script = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))";
    serde_json::from_str(&run("deploy/bin/python", &["-c", script, &deploy(name)])).unwrap()
}

fn collect(value: &serde_json::Value, path: &str, as_it_is: &[&str], leaves: &mut Vec<String>) {
    let name = path.rsplit('.').next().unwrap();
    match value
        .as_object()
        .filter(|map| !map.is_empty() && !as_it_is.contains(&name))
    {
        None => leaves.push(path.to_owned()),
        Some(map) => {
            for (key, value) in map {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect(value, &path, as_it_is, leaves);
            }
        }
    }
}

/// What KEDA's own validation would refuse: a trigger without its address, keys that a ScaledObject
/// does not have.
#[test]
fn what_is_rendered_for_keda_is_what_keda_takes() {
    let rendered = render(FOR_KEDA);
    validate(&rendered);
    let object = rendered
        .split("\n---\n")
        .find(|part| part.contains("kind: ScaledObject"))
        .unwrap();
    let keys = |indent: &str| -> Vec<&str> {
        let lines = object.lines().filter_map(|line| line.strip_prefix(indent));
        lines
            .filter(|line| !line.starts_with([' ', '-', '#']))
            .filter_map(|line| line.split(':').next())
            .collect()
    };
    let spec = &keys("  ")[keys("  ")
        .iter()
        .position(|key| *key == "scaleTargetRef")
        .unwrap()..];
    let known = [
        "scaleTargetRef",
        "minReplicaCount",
        "maxReplicaCount",
        "pollingInterval",
        "cooldownPeriod",
        "advanced",
        "triggers",
    ];
    assert_eq!(spec, known);
    for part in [
        "apiVersion: keda.sh/v1alpha1",
        "name: r-worker",
        "type: external",
        "scalerAddress: r-controller.default.svc:7070",
        "pollingInterval: 7",
        "cooldownPeriod: 70",
        "authenticationRef: { name: tls }",
        "caCert: x",
        "stabilizationWindowSeconds: 5",
    ] {
        assert!(object.contains(part), "{part} is not in {object}");
    }
    let policy = rendered
        .split("\n---\n")
        .find(|part| part.contains("kind: NetworkPolicy"))
        .unwrap();
    assert!(
        policy.contains("kubernetes.io/metadata.name: scalers"),
        "KEDA may ask the controllers: {policy}"
    );
    assert!(
        !render("autoscaling.mode=hpa").contains("kubernetes.io/metadata.name"),
        "nobody else is let in"
    );
}

#[test]
fn a_mode_that_is_none_and_values_that_cannot_be_are_refused_with_a_hint() {
    for (set, hint) in [
        ("autoscaling.mode=cpu", "hint: off, hpa or keda"),
        (
            "autoscaling.mode=hpa,autoscaling.minReplicas=0",
            "hint: a HorizontalPodAutoscaler has at least 1",
        ),
    ] {
        let chart = deploy("helm/streamctl");
        let output = Command::new(tool("helm/helm"))
            .args(["template", "r", &chart, "--set", set])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{set}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(hint),
            "{set}: {output:?}"
        );
    }
    assert_eq!(
        render("autoscaling.mode=off"),
        render(""),
        "without quotes it means the same"
    );
}

/// The services of the compose file that run our programs.
fn ours() -> Vec<(String, serde_json::Value)> {
    let compose = yaml("compose.yaml");
    let services = compose["services"].as_object().unwrap().clone();
    services
        .into_iter()
        .filter(|(_, service)| service["image"] == "streamctl")
        .collect()
}

/// The words of a command, which YAML has as text or as a list.
fn words(command: &serde_json::Value) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let joined = match command.as_array() {
        Some(list) => list.iter().map(text).collect::<Vec<_>>().join(" "),
        None => text(command),
    };
    joined.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn every_flag_and_variable_of_the_compose_file_is_one_of_the_program() {
    for (name, service) in ours() {
        let words = words(&service["command"]);
        let program = words
            .iter()
            .find(|word| word.starts_with("streamctl-"))
            .unwrap();
        let help = Command::new(binary(program))
            .arg("--help")
            .output()
            .unwrap();
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        let flags: Vec<_> = words.iter().filter(|word| word.starts_with("--")).collect();
        assert!(flags.len() >= 3, "{name}: {words:?}");
        for flag in flags {
            assert!(
                help.contains(&format!("{flag} <")),
                "{name}: {program} has no {flag}"
            );
        }
        let variables: Vec<_> = service["environment"].as_object().unwrap().keys().collect();
        assert!(
            variables.iter().any(|name| *name == "STREAMCTL_INSECURE"),
            "{name}: {variables:?}"
        );
        for variable in variables
            .iter()
            .filter(|name| name.starts_with("STREAMCTL_"))
        {
            assert!(
                help.contains(&format!("[env: {variable}=")),
                "{name}: {program} does not know {variable}"
            );
        }
    }
}

/// What engines differ in: some build for every service that says how, look for the image in a
/// registry where one does not, start one of what has no mode.
#[test]
fn the_compose_file_sets_what_engines_do_differently_by_default() {
    let ours = ours();
    assert_eq!(ours.len(), 3, "two controllers and the workers");
    assert_eq!(
        ours.iter()
            .filter(|(_, service)| service.get("build").is_some())
            .count(),
        1,
        "built once"
    );
    for (name, service) in &ours {
        assert_eq!(service["pull_policy"], "never", "{name}");
        // Nobody is asked who he is.
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(
                port.as_str().unwrap().starts_with("127.0.0.1:"),
                "{name} is reached from beyond this host: {port}"
            );
        }
    }
    let worker = &ours.iter().find(|(name, _)| name == "worker").unwrap().1;
    assert_eq!(worker["deploy"]["mode"], "replicated");
    let grace = worker["stop_grace_period"]
        .as_str()
        .unwrap()
        .trim_end_matches('s')
        .parse::<u64>()
        .unwrap();
    // `RELEASE_TIMEOUT` of the worker.
    assert!(
        grace > 20,
        "a worker may take 20 s to hand its shards back, its container has {grace} s"
    );
}

#[test]
fn the_cloudformation_template_has_no_fault() {
    run(
        "deploy/bin/cfn-lint",
        &[
            "-t",
            &deploy("aws/model-job.yaml"),
            "--regions",
            "eu-central-1",
            "us-east-1",
        ],
    );
}
