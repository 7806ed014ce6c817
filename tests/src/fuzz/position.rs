//! Sequence numbers and positions, against numbers of a fixed size and the other direction.
//!
//! Input: two texts, separated by a comma.
//! Rule: text that is a number is ordered as one.

use streamctl_proto::{Position, SequenceNumber, v1};

pub fn position(data: &[u8]) {
    if let Ok(message) = <v1::Position as prost::Message>::decode(data) {
        judge(message);
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (one, other) = text.split_once(',').unwrap_or((text, "0"));
    let (Ok(first), Ok(second)) = (
        SequenceNumber::try_from(one.to_owned()),
        SequenceNumber::try_from(other.to_owned()),
    ) else {
        let digits = |text: &str| {
            (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        assert!(!digits(one) || !digits(other), "{text:?} was refused");
        return;
    };
    if let (Ok(one), Ok(other)) = (one.parse::<u128>(), other.parse::<u128>()) {
        assert_eq!(first.cmp(&second), one.cmp(&other), "{text}");
    }
    assert_eq!(first.cmp(&second), second.cmp(&first).reverse(), "{text}");
    assert_eq!(
        first == second,
        first.cmp(&second).is_eq(),
        "what is equal and what is ordered equally, of {text}"
    );
    let first = Position::after(first);
    let second = Position::after(second);
    assert!(first.reaches(&second) || second.reaches(&first));
    judge((&first).into());
}

fn judge(message: v1::Position) {
    let Ok(position) = Position::try_from(message) else {
        return;
    };
    assert_eq!(
        Position::try_from(v1::Position::from(&position)).as_ref(),
        Ok(&position)
    );
    let stored = serde_json::to_string(&position).expect("a position has only text keys");
    assert_eq!(
        serde_json::from_str::<Position>(&stored).expect("what was stored is read"),
        position
    );
    assert!(
        Position::Start.reaches(&position)
            && position.reaches(&Position::End)
            && position.reaches(&position)
    );
}
