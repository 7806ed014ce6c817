//! What is deployed is what is meant: the chart as helm renders it, the CloudFormation template as cfn-lint reads it.
//!
//! Owns: every value of the chart that `deploy/helm/streamctl/values.yaml` has. Does not own: a cluster; there is none.
//! Rule: each rendering is checked against the schemas of Kubernetes; a value that changes nothing fails.

use std::path::PathBuf;
use std::process::Command;
use streamctl_tests::places::servers_folder;

/// Each value that a user sets, and what must then be in the rendered text (`!`: must not).
const VALUES: [(&str, &str); 28] = [
    ("image.repository=registry/x", "image: \"registry/x:0.1.0\""),
    ("image.tag=v9", "image: \"streamctl:v9\""),
    ("image.pullPolicy=Always", "imagePullPolicy: Always"),
    ("image.pullSecrets[0]=key", "- name: key"),
    ("cluster=sales", "--cluster=sales"),
    ("etcd.endpoints={a:1,b:2}", "--store=etcd://a:1,b:2"),
    ("env.AWS_REGION=eu-west-1", "name: AWS_REGION\n"),
    ("logFormat=text", "--log-format=text"),
    ("serviceAccount.create=false", "!kind: ServiceAccount"),
    ("serviceAccount.name=reader", "serviceAccountName: reader"),
    ("serviceAccount.roleArn=arn:aws:iam::1:role/r", "eks.amazonaws.com/role-arn: \"arn:aws:iam::1:role/r\""),
    ("controller.replicas=3", "replicas: 3"),
    ("controller.resources.limits.memory=3Gi", "memory: 3Gi"),
    ("controller.extraArgs={--one=1}", "- \"--one=1\""),
    ("worker.replicas=7", "replicas: 7"),
    ("worker.terminationGracePeriodSeconds=99", "terminationGracePeriodSeconds: 99"),
    ("worker.resources.limits.memory=9Gi", "memory: 9Gi"),
    ("worker.extraArgs={--threads=4}", "- \"--threads=4\""),
    ("autoscaling.enabled=true", "kind: HorizontalPodAutoscaler"),
    ("podDisruptionBudget.enabled=false", "!kind: PodDisruptionBudget"),
    ("networkPolicy.enabled=false", "!kind: NetworkPolicy"),
    ("networkPolicy.clients[0].podSelector.matchLabels.app=x", "app: x"),
    ("serviceMonitor.enabled=true", "kind: PodMonitor"),
    ("nodeSelector.disk=fast", "disk: fast"),
    ("tolerations[0].key=k,tolerations[0].operator=Exists", "operator: Exists"),
    (
        "autoscaling.enabled=true,autoscaling.minReplicas=3,autoscaling.maxReplicas=33",
        "minReplicas: 3\n  maxReplicas: 33",
    ),
    ("autoscaling.enabled=true,autoscaling.targetCPUUtilizationPercentage=55", "averageUtilization: 55"),
    ("autoscaling.enabled=true,autoscaling.scaleDownStabilizationSeconds=77", "stabilizationWindowSeconds: 77"),
];

fn deploy(name: &str) -> String {
    format!("{}/../deploy/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn tool(name: &str) -> PathBuf {
    let path = servers_folder().join(name);
    assert!(path.exists(), "{} is missing: run `tests/support/servers.sh tests`, or `make test`", path.display());
    path
}

#[track_caller]
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(tool(program)).args(args).env("HELM_PLUGINS", "/nonexistent").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn render(set: &str) -> String {
    let chart = deploy("helm/streamctl");
    let mut args = vec!["template", "r", &chart];
    if !set.is_empty() {
        args.extend(["--set", set]);
    }
    run("helm/helm", &args)
}

/// Against the schemas of Kubernetes; what the Prometheus operator adds is not among them.
fn validate(rendered: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rendered.yaml");
    let known = rendered.split("\n---\n").filter(|part| !part.contains("monitoring.coreos.com")).collect::<Vec<_>>();
    std::fs::write(&file, known.join("\n---\n")).unwrap();
    run("deploy/bin/kubernetes-validate", &["-k", "1.32", "--strict", file.to_str().unwrap()]);
}

#[test]
fn the_chart_as_it_is_runs_without_rights_and_hands_back_in_time() {
    run("helm/helm", &["lint", &deploy("helm/streamctl")]);
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
    let grace = rendered.split("terminationGracePeriodSeconds: ").nth(1).unwrap();
    let grace: u64 = grace.lines().next().unwrap().parse().unwrap();
    // `RELEASE_TIMEOUT` of the worker.
    assert!(grace > 20, "a worker may take 20 s to hand its shards back, the pod has {grace} s");
}

#[test]
fn every_value_of_the_chart_does_what_it_says() {
    let usual = render("");
    for (set, expected) in VALUES {
        let rendered = render(set);
        assert_ne!(rendered, usual, "{set} changes nothing");
        match expected.strip_prefix('!') {
            Some(absent) => assert!(!rendered.contains(absent), "{set}: {absent} is there"),
            None => assert!(rendered.contains(expected), "{set}: {expected} is not in {rendered}"),
        }
        validate(&rendered);
    }
    let monitored = render("serviceMonitor.enabled=true,serviceMonitor.interval=7s,serviceMonitor.labels.release=prom");
    assert!(monitored.contains("interval: 7s") && monitored.contains("release: prom"), "{monitored}");
}

#[test]
fn the_cloudformation_template_has_no_fault() {
    run("deploy/bin/cfn-lint", &["-t", &deploy("aws/model-job.yaml"), "--regions", "eu-central-1", "us-east-1"]);
}
