//! The system that faults strike: three members of etcd, S3, Kinesis, two controllers, three
//! workers, and the network between them.
//!
//! Owns: its parts and their names, making it whole again. Does not own: what is struck, and when.
//! Rule: our programs reach everything through the links; tests and independent clients reach it
//! directly.

use super::watch::Watch;
use crate::cluster::Cluster;
use crate::places::function_python;
use crate::proxy::{Links, Mode};
use crate::python::Python;
use crate::servers::{self, Etcd, Server};
use crate::wait::until;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The bucket of all jobs.
pub const BUCKET: &str = "chaos";
const CONTROLLERS: [&str; 2] = ["controller-1", "controller-2"];
const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];
const ETCD_MEMBERS: usize = 3;
/// Limit to become whole from any state: programs start in a second and reconnect every second.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);

/// All parts; ended with `kill -9` when dropped.
#[derive(Debug)]
pub struct System {
    pub cluster: Cluster,
    pub watch: Watch,
    /// Between our programs, and from them to the servers.
    pub links: Links,
    /// Members of etcd; links call them `etcd-1` and so on.
    pub etcd: Vec<Etcd>,
    /// SeaweedFS; links call it `s3`.
    pub s3: Server,
    /// The emulator; links call it `kinesis`.
    pub kinesis: Server,
    /// Independent clients, without the links.
    pub python: Python,
    folder: PathBuf,
}

/// The name of a member of etcd in the links.
pub fn etcd_name(place: usize) -> String {
    format!("etcd-{}", place + 1)
}

impl System {
    /// Starts everything, with data and logs in `folder`, and waits until it is whole.
    pub fn start(folder: &Path) -> Self {
        let etcd = Etcd::cluster(folder, ETCD_MEMBERS);
        let mut s3 = Server::s3(folder);
        let mut kinesis = Server::kinesis(folder);
        s3.ready();
        kinesis.ready();
        let links = Links::default();
        let store: Vec<_> = etcd
            .iter()
            .enumerate()
            .map(|(place, member)| {
                format!("127.0.0.1:{}", links.open(&etcd_name(place), member.port()))
            })
            .collect();
        let fronts = [
            ("S3", links.open("s3", s3.port())),
            ("KINESIS", links.open("kinesis", kinesis.port())),
        ];
        let store = format!("etcd://{}", store.join(","));
        let mut cluster =
            Cluster::empty(servers::env(&fronts), folder, &store, Some(links.clone()));
        CONTROLLERS.iter().for_each(|id| cluster.add_controller(id));
        let python = function_python();
        let python = python.to_str().expect("the servers' path is text");
        let flags = ["--functions", "--function-python", python];
        WORKERS
            .iter()
            .for_each(|id| cluster.add_worker_with(id, &flags));
        let python = Python::new(servers::env(&[
            ("S3", s3.port()),
            ("KINESIS", kinesis.port()),
        ]));
        let watch = Watch::start(&cluster.controller_addresses());
        let mut system = Self {
            cluster,
            watch,
            links,
            etcd,
            s3,
            kinesis,
            python,
            folder: folder.to_owned(),
        };
        system.make_whole();
        system
    }

    /// The folder of data and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Heals, resumes and starts every broken part, and waits until a leader has all workers.
    pub fn make_whole(&mut self) {
        self.links.heal();
        for member in &mut self.etcd {
            if member.is_running() {
                member.resume()
            } else {
                member.launch_again()
            }
        }
        self.etcd.iter_mut().for_each(Etcd::ready);
        for server in [&mut self.s3, &mut self.kinesis] {
            if server.is_running() {
                server.process().resume()
            } else {
                server.start_again()
            }
        }
        for id in [self.cluster.controller_ids(), self.cluster.worker_ids()].concat() {
            match self.cluster.process(&id) {
                Some(process) => process.resume(),
                None => self.cluster.start_again(&id),
            }
        }
        until("a leader with all workers", WHOLE_WITHIN, || {
            let view = self.watch.view();
            (view.leader.is_some() && WORKERS.iter().all(|id| view.workers.contains(*id)))
                .then_some(())
        });
    }

    /// The controller on standby.
    pub fn standby(&self, leader: &str) -> String {
        CONTROLLERS
            .iter()
            .find(|id| **id != leader)
            .expect("there are two")
            .to_string()
    }

    /// Sets the mode of the links from one process, or from all, to these servers.
    pub fn cut(&self, from: Option<&str>, to: &[&str], mode: Mode) {
        to.iter().for_each(|to| self.links.set(from, to, mode));
    }
}
