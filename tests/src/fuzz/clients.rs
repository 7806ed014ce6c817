//! Input from clients: names, job files, Flight descriptors and tickets.
//!
//! Input: a kind (first byte) and the bytes.
//! Rule: invalid input is refused with a reason that fits into a response, and accepted input means
//! the same when it is written again.

use arrow_flight::FlightDescriptor;
use prost::Message;
use streamctl_controller::service::flight as controller_flight;
use streamctl_proto::flight::PartTicket;
use streamctl_proto::{JobName, v1};

/// Longest refusal that is sent to a client: the limit of its HTTP library for a header.
const REFUSAL_BYTES_MAX: usize = 16 << 10;

pub fn clients(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else {
        return;
    };
    match kind % 4 {
        0 => descriptor(data),
        1 => ticket(data),
        2 => name(data),
        _ => submit(data),
    }
}

fn descriptor(data: &[u8]) {
    let plain = FlightDescriptor::new_cmd(data.to_vec());
    for descriptor in [Ok(plain), FlightDescriptor::decode(data)]
        .into_iter()
        .flatten()
    {
        match controller_flight::read_command(&descriptor) {
            Ok(command) => {
                let text = serde_json::to_vec(&command).expect("a command has only text keys");
                let again = controller_flight::read_command(&FlightDescriptor::new_cmd(text))
                    .expect("it was one");
                assert_eq!(
                    (again.job, again.from, again.to, again.limit),
                    (command.job, command.from, command.to, command.limit)
                );
            }
            Err(status) => refusal(&status),
        }
    }
}

fn ticket(data: &[u8]) {
    if let Ok(ticket) = PartTicket::read(data) {
        let written = serde_json::to_vec(&ticket).expect("a ticket has only text keys");
        let again = PartTicket::read(&written).expect("it was one");
        assert_eq!(again, ticket);
    }
}

fn name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(name) = text.parse::<JobName>() {
        assert_eq!(name.as_str(), text);
        let plain = text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        assert!(
            plain && (1..=63).contains(&text.len()),
            "{text:?} is part of keys and paths"
        );
    }
}

fn submit(data: &[u8]) {
    let Ok(request) = v1::SubmitRequest::decode(data) else {
        return;
    };
    match controller_submit::parse(&request.spec_toml, &request.base_dir) {
        Ok(spec) => assert!(!spec.name.as_str().is_empty()),
        Err(status) => refusal(&status),
    }
}

use streamctl_controller::service::submit as controller_submit;

fn refusal(status: &tonic::Status) {
    assert!(!status.message().is_empty());
    let cost = |byte: u8| {
        if byte.is_ascii_graphic() || byte == b' ' {
            1
        } else {
            3
        }
    };
    let bytes: usize = status.message().bytes().map(cost).sum();
    assert!(
        bytes < REFUSAL_BYTES_MAX,
        "a refusal of {bytes} bytes does not arrive"
    );
}
