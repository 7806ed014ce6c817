//! How a fault is applied to the system, and healed.
//!
//! Owns: the current meaning of [`Who`] and [`To`], signals, cuts, the order of an upgrade. Does
//! not own: when, and the measurements (`run`).
//! Rule: the struck parts are remembered, and healing touches nothing else.

use super::fault::{Strike, To, Who};
use super::system::{System, etcd_name};
use super::watch::View;
use crate::places::binary;
use crate::process::{children_of, signal};
use crate::proxy::Mode;
use crate::wait::{http_get, until};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long one fault of a storm lasts: around the time-outs of leases, connections and silence.
const STORM_MS: std::ops::Range<u64> = 200..5_000;
/// One step of an upgrade: stop, start, join, take over.
const STEP_WITHIN: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Default)]
pub struct Struck {
    pub parts: Vec<String>,
}

impl System {
    /// Applies the fault; `view` is the state just before. A storm and an upgrade are over when
    /// this returns.
    pub fn strike(&mut self, strike: Strike, lasts: Duration, view: &View) -> Struck {
        match strike {
            Strike::Kill(who) => self.each(who, view, |system, part| system.kill(part)),
            Strike::KillFunctions => self.kill_functions(view),
            Strike::Pause(who) => self.each(who, view, |system, part| system.pause(part)),
            Strike::Cut(who, to, mode) => self.cut_all(who, to, mode, view),
            Strike::Upgrade => self.upgrade(view),
            Strike::ReshardAndKill => self.reshard_and_kill(view),
            Strike::Storm(seed) => self.storm(seed, lasts),
            Strike::FillDisk | Strike::StopSink => {
                unreachable!("these have systems of their own (`disk`, `stall`)")
            }
        }
    }

    pub fn mend(&mut self, strike: Strike, struck: &Struck) {
        match strike {
            Strike::Kill(_) | Strike::ReshardAndKill => self.start_parts(&struck.parts),
            Strike::Pause(_) => struck.parts.iter().for_each(|part| self.resume(part)),
            Strike::Cut(..) => self.links.heal(),
            Strike::KillFunctions
            | Strike::Upgrade
            | Strike::Storm(_)
            | Strike::FillDisk
            | Strike::StopSink => {}
        }
    }

    /// The worker stays.
    fn kill_functions(&mut self, view: &View) -> Struck {
        let worker = busiest(view);
        let process = self.cluster.process(&worker);
        let pid = process.expect("it ran before the fault").pid();
        let children = children_of(pid);
        assert!(!children.is_empty(), "{worker} has called its function");
        children.into_iter().for_each(|child| signal(child, "KILL"));
        Struck {
            parts: vec![worker],
        }
    }

    fn each(&mut self, who: Who, view: &View, act: impl Fn(&mut Self, &str)) -> Struck {
        let parts = self.parts(who, view);
        parts.iter().for_each(|part| act(self, part));
        Struck { parts }
    }

    /// The names of the meant parts.
    fn parts(&self, who: Who, view: &View) -> Vec<String> {
        let leader = || {
            view.leader
                .clone()
                .expect("a controller led before the fault")
        };
        let workers = self.cluster.worker_ids();
        let controllers = self.cluster.controller_ids();
        let members = || (0..self.etcd.len()).map(etcd_name).collect::<Vec<_>>();
        match who {
            Who::Worker => vec![busiest(view)],
            Who::Workers => workers,
            Who::Leader => vec![leader()],
            Who::Standby => vec![self.standby(&leader())],
            Who::Controllers => controllers,
            Who::Programs => [workers, controllers].concat(),
            Who::ProgramsAndEtcd => [workers, controllers, members()].concat(),
            Who::EtcdLeader => vec![self.etcd_leader()],
            Who::EtcdMost => members().split_off(1),
            Who::S3 => vec!["s3".to_owned()],
        }
    }

    fn etcd_leader(&self) -> String {
        let leads = |port| {
            http_get(port, "/metrics")
                .is_some_and(|text| text.contains("\netcd_server_is_leader 1\n"))
        };
        until("a member that leads etcd", STEP_WITHIN, || {
            self.etcd
                .iter()
                .position(|member| leads(member.port()))
                .map(etcd_name)
        })
    }

    fn kill(&mut self, part: &str) {
        match self.server_of(part) {
            Some(Part::Etcd(place)) => self.etcd[place].kill(),
            Some(Part::S3) => self.s3.kill(),
            None => self.cluster.kill(part),
        }
    }

    fn pause(&mut self, part: &str) {
        match self.server_of(part) {
            Some(Part::Etcd(place)) => self.etcd[place].pause(),
            Some(Part::S3) => self.s3.process().pause(),
            None => self
                .cluster
                .process(part)
                .expect("it ran before the fault")
                .pause(),
        }
    }

    fn resume(&mut self, part: &str) {
        match self.server_of(part) {
            Some(Part::Etcd(place)) => self.etcd[place].resume(),
            Some(Part::S3) => self.s3.process().resume(),
            None => self
                .cluster
                .process(part)
                .expect("it was paused, not killed")
                .resume(),
        }
    }

    /// Servers first: otherwise our programs would only log that they are missing.
    fn start_parts(&mut self, parts: &[String]) {
        let servers: Vec<_> = parts
            .iter()
            .filter_map(|part| self.server_of(part))
            .collect();
        for server in &servers {
            match server {
                Part::Etcd(place) => self.etcd[*place].launch_again(),
                Part::S3 => self.start_s3_again(),
            }
        }
        for part in parts {
            if self.server_of(part).is_none() {
                self.cluster.start_again(part);
            }
        }
    }

    /// SeaweedFS responds some seconds before it accepts objects.
    fn start_s3_again(&mut self) {
        self.s3.start_again();
        until("an S3 that takes objects", STEP_WITHIN, || {
            let probe = [
                "prepare",
                "--no-stream",
                "--no-table",
                "--bucket",
                super::system::BUCKET,
            ];
            self.python.try_ask("seed.py", &probe).ok()
        });
    }

    fn server_of(&self, part: &str) -> Option<Part> {
        let place = (0..self.etcd.len()).find(|place| etcd_name(*place) == part);
        place.map(Part::Etcd).or((part == "s3").then_some(Part::S3))
    }

    fn cut_all(&mut self, who: Who, to: To, mode: Mode, view: &View) -> Struck {
        let parts = self.parts(who, view);
        let servers = self.servers(to);
        for server in &servers {
            if who == Who::Programs {
                self.links.set(None, server, mode);
            }
            for part in parts
                .iter()
                .filter(|part| who != Who::Programs && *part != server)
            {
                self.links.set(Some(part), server, mode);
            }
        }
        // An isolated part cannot be reached either.
        for part in parts
            .iter()
            .filter(|part| to == To::Everything && servers.contains(part))
        {
            self.links.set(None, part, mode);
        }
        Struck { parts }
    }

    fn servers(&self, to: To) -> Vec<String> {
        let members: Vec<_> = (0..self.etcd.len()).map(etcd_name).collect();
        let [s3, kinesis] = ["s3", "kinesis"].map(|name| vec![name.to_owned()]);
        match to {
            To::Controllers => self.cluster.controller_ids(),
            To::Etcd => members,
            To::S3 => s3,
            To::Kinesis => kinesis,
            To::Everything => [self.cluster.controller_ids(), members, s3, kinesis].concat(),
        }
    }

    /// Workers, the standby, the leader: each is stopped, started from another path, and awaited.
    fn upgrade(&mut self, view: &View) -> Struck {
        let leader = view
            .leader
            .clone()
            .expect("a controller led before the upgrade");
        let standby = self.standby(&leader);
        for id in self.cluster.worker_ids() {
            self.replace(&id, "streamctl-worker");
            until("the upgraded worker at work", STEP_WITHIN, || {
                self.watch.view().busy().contains(&id).then_some(())
            });
        }
        self.replace(&standby, "streamctl-controller");
        self.replace(&leader, "streamctl-controller");
        Struck {
            parts: vec![leader],
        }
    }

    fn replace(&mut self, id: &str, program: &str) {
        assert!(
            self.cluster.terminate(id),
            "{id} did not end well when it was asked to"
        );
        let path = self.new_program(program);
        self.cluster.replace_program(id, &path);
        self.cluster.start_again(id);
    }

    /// The same program under another path.
    fn new_program(&self, program: &str) -> PathBuf {
        let folder = self.folder().join("new");
        std::fs::create_dir_all(&folder).expect("the folder takes folders");
        let path = folder.join(program);
        if !path.exists() {
            std::os::unix::fs::symlink(binary(program), &path).expect("the folder takes links");
        }
        path
    }

    /// Breaks one part at a time for up to [`STORM_MS`], heals it, and soon continues with the
    /// next.
    fn storm(&mut self, seed: u64, lasts: Duration) -> Struck {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut parts = self.parts(Who::ProgramsAndEtcd, &View::default());
        // Only a minority of etcd; and our programs more often, as there is more to break.
        parts.truncate(parts.len() - 2);
        let servers = self.servers(To::Everything);
        let begin = Instant::now();
        while begin.elapsed() < lasts {
            let part = parts[random.usize(..parts.len())].clone();
            let length = Duration::from_millis(random.u64(STORM_MS));
            match random.u8(..3) {
                0 => {
                    self.kill(&part);
                    std::thread::sleep(length / 4);
                    self.start_parts(std::slice::from_ref(&part));
                }
                1 => {
                    self.pause(&part);
                    std::thread::sleep(length);
                    self.resume(&part);
                }
                _ => {
                    let mode = if random.bool() {
                        Mode::Hole
                    } else {
                        Mode::Reset
                    };
                    let server = &servers[random.usize(..servers.len())];
                    self.links.set(Some(&part), server, mode);
                    std::thread::sleep(length);
                    self.links.heal();
                }
            }
        }
        Struck { parts: vec![] }
    }

    fn reshard_and_kill(&mut self, view: &View) -> Struck {
        let stream = view.job.as_ref().expect("a job runs").job.clone();
        self.python.ask("reshard.py", &["split", &stream]);
        let struck = self.each(Who::Worker, view, |system, part| system.kill(part));
        self.python.ask("reshard.py", &["merge", &stream]);
        struck
    }
}

enum Part {
    Etcd(usize),
    S3,
}

/// The worker with the most tasks of the job.
fn busiest(view: &View) -> String {
    let tasks = |worker: &String| {
        let shards = view.job.iter().flat_map(|job| &job.shards);
        shards.filter(|shard| shard.worker == *worker).count()
    };
    view.busy()
        .into_iter()
        .max_by_key(tasks)
        .expect("some worker has a task")
}
