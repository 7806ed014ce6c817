//! Faults beyond single calls and messages: of processes, machines, the network, clocks, the
//! stream, the user.
//!
//! Owns: which fault happens when, by the dice, and what ends by itself. Does not own: how it is
//! done (`world`).
//! Rule: every fault that begins here ends at the latest when the world becomes calm.

use super::world::{Place, UserWish, World};
use std::sync::atomic::Ordering;
use streamctl_controller::store::StoreCopy;

/// Most shards of a story.
const SHARDS_MAX: usize = 14;
/// How far the clock of Kinesis is ahead of the world's after a jump. Windows do not go back with
/// it: after a jump back they wait until it catches up, which must happen before a story ends.
const KINESIS_AHEAD_MS: std::ops::Range<i64> = -10_000..10_000;
/// Longest refusal of a place, in milliseconds: shorter than the time after which a job with no
/// other place fails.
const REFUSED_MS_MAX: i64 = 8_000;
const REFUSALS: [(&str, &str); 5] = [
    ("s3", "AccessDenied"),
    ("s3", "ExpiredToken"),
    ("s3", "RequestTimeTooSkewed"),
    ("kinesis", "AccessDeniedException"),
    ("kinesis", "ExpiredTokenException"),
];
const WORKERS_MAX: usize = 6;

/// Faults that will end by themselves.
#[derive(Default)]
pub struct Chaos {
    heals: Vec<(i64, String, String)>,
    /// An operator's copy of the store.
    copy: Option<StoreCopy>,
}

impl Chaos {
    /// Starts a fault, or ends one, or does nothing.
    pub fn strike(&mut self, world: &mut World) {
        let now_ms = world.weather.now_ms();
        self.heals.retain(|(at_ms, a, b)| {
            let over = *at_ms <= now_ms;
            if over {
                world.weather.heal(a, b);
            }
            !over
        });
        if world.weather.roll(|rng| rng.u32(0..1_000)) >= world.setting.trouble {
            return;
        }
        match world.weather.roll(|rng| rng.u8(0..49)) {
            0..6 => break_line(world),
            6..9 => end(world, 'w'),
            9..11 => end(world, 'c'),
            11..14 => freeze(world, 'w'),
            14..17 => freeze(world, 'c'),
            17..21 => self.cut(world),
            21 => take_down(world, "store", "store: down"),
            22 => take_down(world, "s3", "s3: down"),
            23 => take_down(world, "kinesis", "kinesis: down"),
            24 | 25 => {
                world.weather.count("leader: another elected");
                world.end_term(now_ms);
            }
            26 | 27 => jump(world),
            28 | 29 => {
                world.weather.count("lookup: changed");
                let job = pick_job(world);
                world.change_lookup(job);
            }
            30 | 31 => user(world),
            32 => add_worker(world),
            33 => dismiss(world),
            34..38 => reshard(world),
            38 | 39 => ask_to_stop(world, 'c'),
            40 => stand_still(world),
            41 => elect_without_permission(world),
            42 | 43 => break_lookup(world),
            44..47 => refuse_place(world),
            _ => self.copy_or_restore(world),
        }
    }

    /// An operator copies the store, or puts the last copy back.
    fn copy_or_restore(&mut self, world: &mut World) {
        // A copy must not be older than the history that is kept; here clocks jump by more.
        if world.jobs.iter().any(|job| job.forgets) {
            return;
        }
        match self.copy.take() {
            None => self.copy = Some(world.store.copy()),
            Some(copy) if world.can_go_back_to(&copy) => {
                world.weather.note(|| "the store is put back to a copy");
                world.weather.count("store: restored from a copy");
                world.put_store_back(&copy);
            }
            Some(_) => {}
        }
    }

    fn cut(&mut self, world: &mut World) {
        let Some(a) = pick(world, |_, _| true) else {
            return;
        };
        let others: Vec<String> = match a.starts_with('w') {
            true => world
                .places
                .keys()
                .filter(|name| name.starts_with('c'))
                .cloned()
                .collect(),
            false => world
                .places
                .keys()
                .filter(|name| **name != a)
                .cloned()
                .collect(),
        };
        let services = ["store", "s3", "kinesis"];
        let (which, all) = world.weather.roll(|rng| {
            (
                rng.usize(0..others.len() + services.len()),
                rng.u8(0..4) == 0,
            )
        });
        let until_ms = world.weather.now_ms() + world.weather.roll(|rng| rng.i64(300..9_000));
        let cuts = match others.get(which) {
            _ if all => others.clone(),
            Some(other) => vec![other.clone()],
            None => vec![services[which - others.len()].to_owned()],
        };
        world.weather.count("network: partition");
        for b in cuts {
            world
                .weather
                .note(|| format!("{a} and {b} are cut until {until_ms}"));
            world.weather.cut(&a, &b);
            self.heals.push((until_ms, a.clone(), b));
        }
    }
}

fn pick(world: &World, fits: impl Fn(&str, &Place) -> bool) -> Option<String> {
    let names: Vec<&String> = world
        .places
        .iter()
        .filter(|(name, place)| fits(name, place))
        .map(|(name, _)| name)
        .collect();
    if names.is_empty() {
        None
    } else {
        Some(
            world
                .weather
                .roll(|rng| names[rng.usize(0..names.len())].clone()),
        )
    }
}

/// The index of some job.
fn pick_job(world: &World) -> usize {
    world.weather.roll(|rng| rng.usize(0..world.jobs.len()))
}

fn running(kind: char) -> impl Fn(&str, &Place) -> bool {
    move |name, place| name.starts_with(kind) && place.process.is_some()
}

fn break_line(world: &World) {
    let lines = world.network.standing();
    if !lines.is_empty() {
        let line = world.weather.roll(|rng| lines[rng.usize(0..lines.len())]);
        world.network.break_line(line);
    }
}

/// Kills a process, with or without notice from its machine.
fn end(world: &mut World, kind: char) {
    let Some(name) = pick(world, running(kind)) else {
        return;
    };
    let (silent, back_ms) = world.weather.roll(|rng| (rng.bool(), rng.i64(50..6_000)));
    kill(world, &name, silent, back_ms);
}

/// Kills the process of this place; another one starts there after `back_ms`.
pub fn kill(world: &mut World, name: &str, silent: bool, back_ms: i64) {
    let now_ms = world.weather.now_ms();
    world
        .weather
        .note(|| format!("{name} is killed, silent: {silent}"));
    world.weather.count(if name.starts_with('c') {
        "controller: killed"
    } else {
        "worker: killed"
    });
    if silent {
        world.network.vanish(name);
    }
    if let Some(place) = world.places.get_mut(name) {
        place.starts_at_ms = Some(now_ms + back_ms);
        place.process = None;
    }
    if !silent {
        world.network.reset(name);
    }
}

fn freeze(world: &mut World, kind: char) {
    let Some(name) = pick(world, running(kind)) else {
        return;
    };
    let ms = world
        .weather
        .roll(|rng| [rng.i64(100..2_000), rng.i64(2_000..15_000)][rng.usize(0..2)]);
    let until_ms = world.weather.now_ms() + ms;
    world
        .weather
        .note(|| format!("{name} is frozen until {until_ms}"));
    world.weather.count(if kind == 'c' {
        "controller: paused"
    } else {
        "worker: paused"
    });
    if let Some(process) = world
        .places
        .get_mut(&name)
        .and_then(|place| place.process.as_mut())
    {
        process.frozen_until_ms = Some(until_ms);
    }
}

fn take_down(world: &World, service: &'static str, fault: &'static str) {
    let until_ms = world.weather.now_ms() + world.weather.roll(|rng| rng.i64(200..7_000));
    world
        .weather
        .note(|| format!("{service} is down until {until_ms}"));
    world.weather.count(fault);
    world.weather.take_down(service, until_ms);
}

/// Sometimes suspends everything for longer than records are kept.
fn stand_still(world: &mut World) {
    if world.weather.roll(|rng| rng.u8(0..4)) == 0 {
        world
            .weather
            .note(|| "everything stands still for longer than records are kept");
        world.weather.count("outage: longer than the retention");
        world.stand_still();
    }
}

/// A worker or a controller loses its permission for a service for a while: its rights, its
/// credentials, its clock. Only one worker at a time: a refusal of all of them counts as the job's
/// fault.
fn refuse_place(world: &World) {
    if world.weather.denies_a_worker() {
        return;
    }
    let Some(place) = pick(world, |_, place| place.process.is_some()) else {
        return;
    };
    let until_ms = world.weather.now_ms() + world.weather.roll(|rng| rng.i64(300..REFUSED_MS_MAX));
    let (service, code) = world
        .weather
        .roll(|rng| REFUSALS[rng.usize(0..REFUSALS.len())]);
    world
        .weather
        .note(|| format!("{place} is refused by {service} until {until_ms}: {code}"));
    world.weather.count("permission: lost for a while");
    world.weather.deny(&place, service, code, until_ms);
}

/// Elects another controller while it has no permission to read what it must load.
fn elect_without_permission(world: &mut World) {
    let until_ms = world.weather.now_ms() + world.weather.roll(|rng| rng.i64(2_000..8_000));
    world
        .weather
        .note(|| format!("controllers are refused by S3 until {until_ms}"));
    world
        .weather
        .count("controller: elected without permission");
    refuse_controllers(world, until_ms);
}

/// Ends the term, and makes S3 refuse every controller until this time.
pub fn refuse_controllers(world: &mut World, until_ms: i64) {
    for place in world.places.keys().filter(|name| name.starts_with('c')) {
        world.weather.deny(place, "s3", "AccessDenied", until_ms);
    }
    world.end_term(world.weather.now_ms());
}

/// Makes the files of a lookup unreadable until the end: a job keeps its current version, under
/// every leader.
fn break_lookup(world: &World) {
    let job = &world.jobs[pick_job(world)];
    if world.has_lookup_in_use(job) {
        world
            .weather
            .note(|| format!("the lookup of {} breaks", job.name));
        world.weather.count("lookup: broken");
        world.break_lookup(job);
    }
}

/// A clock jumps to another offset from the world's. That of Kinesis jumps only if windows are not
/// known beforehand.
fn jump(world: &World) {
    if !world.setting.exact && world.weather.roll(|rng| rng.u8(0..4)) == 0 {
        let ahead_ms = world.weather.roll(|rng| rng.i64(KINESIS_AHEAD_MS));
        world
            .weather
            .note(|| format!("the clock of Kinesis jumps to {ahead_ms}"));
        world.weather.count("clock: of Kinesis");
        return world.weather.set_kinesis_ahead(ahead_ms);
    }
    let Some(name) = pick(world, |_, _| true) else {
        return;
    };
    let ahead_ms = world.roll_skew(&name);
    world
        .weather
        .note(|| format!("the clock of {name} jumps to {ahead_ms}"));
    let before_ms = world.places[&name]
        .skew_ms
        .swap(ahead_ms, Ordering::Relaxed);
    world.weather.count(if ahead_ms < before_ms {
        "clock: back"
    } else {
        "clock: forward"
    });
}

fn user(world: &World) {
    let wish = match world.weather.roll(|rng| rng.u8(0..10)) {
        0 => UserWish::Stop { drain: false },
        1 | 2 => UserWish::Stop { drain: true },
        3..6 => UserWish::Run,
        _ => UserWish::Change,
    };
    world.weather.count(match wish {
        UserWish::Run => "user: resubmits",
        UserWish::Change => "user: changes the job",
        UserWish::Repair => "user: repairs",
        UserWish::Stop { drain: true } => "user: drains",
        UserWish::Stop { drain: false } => "user: stops",
    });
    world.ask(&world.jobs[pick_job(world)], wish);
}

fn add_worker(world: &mut World) {
    let workers = world
        .places
        .keys()
        .filter(|name| name.starts_with('w'))
        .count();
    if workers < WORKERS_MAX {
        world.weather.count("worker: added");
        let place = Place {
            starts_at_ms: Some(world.weather.now_ms()),
            ..Place::default()
        };
        world.places.insert(format!("w{workers}"), place);
    }
}

fn dismiss(world: &mut World) {
    ask_to_stop(world, 'w');
}

/// Like SIGTERM; it comes back later.
fn ask_to_stop(world: &mut World, kind: char) {
    let Some(name) = pick(world, running(kind)) else {
        return;
    };
    world.weather.note(|| format!("{name} is asked to stop"));
    world.weather.count(if kind == 'c' {
        "controller: dismissed"
    } else {
        "worker: dismissed"
    });
    let back_ms = world.weather.now_ms() + world.weather.roll(|rng| rng.i64(2_000..9_000));
    if let Some(place) = world.places.get_mut(&name) {
        place.starts_at_ms = Some(back_ms);
        if let Some(process) = &place.process {
            process.ask_to_stop();
        }
    }
}

fn reshard(world: &World) {
    let job = &world.jobs[pick_job(world)];
    let mut stream = job.stream();
    if stream.shards.len() < SHARDS_MAX {
        let what = world.weather.roll(|rng| stream.reshard(rng));
        world
            .weather
            .note(|| format!("{} {what}: {:?}", job.name, stream.shards.keys().last()));
        world.weather.count(what);
    }
}
