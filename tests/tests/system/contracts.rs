//! The contracts of the outside systems, on the real ones: what the fakes promise beside the code
//! holds here too.

use std::process::{Command, Stdio};
use streamctl_controller::store::contract_etcd;
use streamctl_tests::Servers;
use streamctl_tests::places::{
    binary, free_ports, inherited, one_system_at_a_time, server_program,
};
use streamctl_tests::python::Python;

/// Two servers: one alone, one of three members; each member has a port for clients and one for
/// peers.
const ETCD_PORTS: u16 = 8;

#[test]
fn the_store_keeps_its_contract_on_etcd() {
    let _alone = one_system_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(contract_etcd::on_etcd(
        &server_program("etcd"),
        folder.path(),
        free_ports(ETCD_PORTS),
    ));
}

#[test]
fn the_storage_keeps_its_contract_on_s3() {
    let _alone = one_system_at_a_time();
    let servers = Servers::start();
    Python::new(servers.env()).ask(
        "seed.py",
        &[
            "prepare", "--stream", "s", "--shards", "1", "--bucket", "contract",
        ],
    );
    let mut contract = Command::new(binary("storage-contract"));
    contract
        .arg("s3://contract/contract/")
        .env_clear()
        .envs(inherited())
        .envs(servers.env())
        .stdin(Stdio::null());
    let output = contract.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
