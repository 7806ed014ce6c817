//! Finds the process at the other end of a connection on 127.0.0.1, using `/proc`.
//!
//! Rule: it never guesses; a connection of an unregistered process has no name.

use std::collections::BTreeMap;
use std::fs;

/// The name of the process whose socket has the local port `client` and the remote port `server`.
pub(super) fn name_of(client: u16, server: u16, names: &BTreeMap<u32, String>) -> Option<String> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let inode = table
        .lines()
        .skip(1)
        .find_map(|line| inode_of(line, client, server))?;
    let socket = format!("socket:[{inode}]");
    let holds = |pid: &u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).ok();
        files.is_some_and(|files| {
            files.flatten().any(|file| {
                fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == socket.as_str())
            })
        })
    };
    names
        .iter()
        .find(|(pid, _)| holds(pid))
        .map(|(_, name)| name.clone())
}

/// The inode of a line of `/proc/net/tcp`, if it is this connection: `sl local remote st queues
/// timer retrnsmt uid timeout inode`, addresses as `0100007F:PORT` in hexadecimal.
fn inode_of(line: &str, client: u16, server: u16) -> Option<&str> {
    let mut cells = line.split_whitespace();
    let local = cells.nth(1)?;
    let remote = cells.next()?;
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    let found = port(local) == Some(client) && port(remote) == Some(server);
    found.then(|| cells.nth(6))?
}
