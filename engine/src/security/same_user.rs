//! Determines which user of this machine owns the other end of a loopback connection.
//!
//! Owns: reading the kernel's tables of TCP sockets. Does not own: admission (`gate`).
//! Rule: a user who cannot be determined is not this program's user.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;

/// The kernel's tables of TCP sockets; the client of an IPv6 listener may use an IPv4 socket.
const SOCKET_TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The state of a socket whose owner has not closed it: for other states the kernel reports user 0.
const ESTABLISHED: &str = "01";
/// A socket without a file descriptor: the kernel reports user 0 for it too.
const NO_INODE: &str = "0";
const ROOT: u32 = 0;

/// The owner of the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerUser {
    /// The user of this process, or root, who could become that user.
    Same,
    /// Another user of this machine.
    Other(u32),
    /// The kernel does not report it, or the other end is closed already.
    Unknown,
}

/// Looks up the owner of `peer`, the other end of a connection accepted at `local`. Reads procfs,
/// which does not wait for a disk.
pub fn peer_user(peer: SocketAddr, local: SocketAddr) -> PeerUser {
    match (socket_user(peer, local), own_user()) {
        (Some(user), Some(own)) if user == own || user == ROOT => PeerUser::Same,
        (Some(user), Some(_)) => PeerUser::Other(user),
        _ => PeerUser::Unknown,
    }
}

/// Whether this system reports the users of loopback connections. Tried once, on a connection to
/// itself.
pub fn is_supported() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| try_on_itself().unwrap_or(false))
}

fn try_on_itself() -> io::Result<bool> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let local = listener.local_addr()?;
    let client = TcpStream::connect(local)?;
    Ok(peer_user(client.local_addr()?, local) == PeerUser::Same)
}

/// The user of this process, as its sockets report it.
fn own_user() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    // Real, effective, saved, and the one of files, which new sockets get.
    users.split_whitespace().nth(3)?.parse().ok()
}

fn socket_user(socket: SocketAddr, connected_to: SocketAddr) -> Option<u32> {
    SOCKET_TABLES.iter().find_map(|path| {
        let table = std::fs::read_to_string(path).ok()?;
        table
            .lines()
            .skip(1)
            .find_map(|line| user_of(line, socket, connected_to))
    })
}

/// The user of a line of the table, if it is the line of this socket.
fn user_of(line: &str, socket: SocketAddr, connected_to: SocketAddr) -> Option<u32> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let remote = fields.next()?;
    let state = fields.next()?;
    let same = |text: &str, address: SocketAddr| {
        address_of(text)
            .is_some_and(|(ip, port)| ip == address.ip().to_canonical() && port == address.port())
    };
    if state != ESTABLISHED || !same(local, socket) || !same(remote, connected_to) {
        return None;
    }
    // After the state: queues, timer, retransmits, then the user, a time-out and the inode.
    let user = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?;
    (inode != NO_INODE).then_some(user)
}

/// Parses `0100007F:1F90`: 32-bit words of the address in the machine's byte order, and the port.
fn address_of(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        Some(
            u32::from_str_radix(address.get(at..at + 8)?, 16)
                .ok()?
                .to_ne_bytes(),
        )
    };
    let ip = match address.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index * 8)?);
            }
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_this_process_is_of_the_same_user_until_it_is_closed() {
        assert!(is_supported(), "the tests run on Linux");
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue;
            };
            let local = listener.local_addr().unwrap();
            let client = TcpStream::connect(local).unwrap();
            let peer = client.local_addr().unwrap();
            let accepted = listener.accept().unwrap();
            assert_eq!(peer_user(peer, local), PeerUser::Same, "{address}");
            drop(client);
            assert_eq!(
                peer_user(peer, local),
                PeerUser::Unknown,
                "a closed socket has no user: {address}"
            );
            drop(accepted);
        }
    }

    #[test]
    fn a_line_gives_the_user_of_an_open_socket_with_both_ends_right() {
        let socket = "127.0.0.1:40000".parse().unwrap();
        let service = "127.0.0.1:7070".parse().unwrap();
        let line = |state: &str, inode: &str| {
            format!(
                "  12: 0100007F:9C40 0100007F:1B9E {state} 00000000:00000000 00:00000000 00000000 \
                 65534 0 {inode} 1 0"
            )
        };
        assert_eq!(user_of(&line("01", "4711"), socket, service), Some(65_534));
        assert_eq!(
            user_of(&line("06", "4711"), socket, service),
            None,
            "TIME_WAIT is shown as of root"
        );
        assert_eq!(
            user_of(&line("01", "0"), socket, service),
            None,
            "a socket without an owner is shown as of root"
        );
        assert_eq!(user_of(&line("01", "4711"), service, socket), None);
        let mapped = "0000000000000000FFFF00000100007F:9C40";
        assert_eq!(
            address_of(mapped),
            Some(("127.0.0.1".parse().unwrap(), 40_000))
        );
    }
}
