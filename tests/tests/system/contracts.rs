//! The contracts of the outside systems, on the real ones: what the fakes promise beside the code holds here too.

use std::process::{Command, Stdio};
use streamctl_controller::store::contract_etcd;
use streamctl_engine::aws::{Aws, AwsSettings};
use streamctl_engine::storage::{Storages, contract};
use streamctl_proto::spec::Location;
use streamctl_tests::Servers;
use streamctl_tests::places::{free_ports, inherited, one_system_at_a_time, server_program};
use streamctl_tests::python::Python;

/// Two servers: one alone, one of three members; each member has a port for clients and one for peers.
const ETCD_PORTS: u16 = 8;

#[test]
fn the_store_keeps_its_contract_on_etcd() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(contract_etcd::on_etcd(&server_program("etcd"), folder.path(), free_ports(ETCD_PORTS)));
}

/// The SDK reads addresses and keys from its process's environment, which a test can not change for itself: the
/// contract runs in a process of its own.
#[test]
fn the_storage_keeps_its_contract_on_s3() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    Python::new(servers.env()).ask("seed.py", &["prepare", "--stream", "s", "--shards", "1", "--bucket", "contract"]);
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "contracts::in_a_process_with_the_servers_addresses", "--ignored", "--nocapture"]);
    again.env_clear().envs(inherited()).envs(servers.env()).stdin(Stdio::null());
    let output = again.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{out}\n{err}");
}

#[tokio::test]
#[ignore = "the test above runs it, in an environment that names the servers"]
async fn in_a_process_with_the_servers_addresses() {
    let settings = AwsSettings::from_env();
    assert!(settings.s3_path_style, "this test is run by `the_storage_keeps_its_contract_on_s3` only");
    let root = Location::folder("s3://contract/contract/");
    let storage = Storages::new(Aws::new(settings)).for_location(root.as_str());
    contract::contract(&*storage, &root).await;
}
