//! One sales record, from its numbers alone.
//!
//! Owns: the payload. Does not own: when it arrives.
//! Rule: pure: the same (seed, shard, index) gives the same bytes on every machine, so an oracle
//! can compute them too.

use std::sync::LazyLock;

/// The names of the workshop's lookup, so that every record finds its country.
static COUNTRIES: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    include_str!("../../../data/country_names.txt")
        .lines()
        .collect()
});

/// A country that no lookup has.
pub const COUNTRY_UNMATCHED: &str = "Neverland";

/// Item type, price and cost per unit in cents.
const ITEMS: [(&str, u64, u64); 12] = [
    ("Baby Food", 25_528, 15_942),
    ("Beverages", 4_745, 3_179),
    ("Cereal", 20_570, 11_711),
    ("Clothes", 10_928, 3_584),
    ("Cosmetics", 43_720, 26_333),
    ("Fruits", 933, 692),
    ("Household", 66_827, 50_254),
    ("Meat", 42_189, 36_469),
    ("Office Supplies", 65_121, 52_496),
    ("Personal Care", 8_173, 5_667),
    ("Snacks", 15_258, 9_744),
    ("Vegetables", 15_406, 9_093),
];
const REGIONS: [&str; 7] = [
    "Asia",
    "Australia and Oceania",
    "Central America and the Caribbean",
    "Europe",
    "Middle East and North Africa",
    "North America",
    "Sub-Saharan Africa",
];
const CHANNELS: [&str; 2] = ["Offline", "Online"];
const PRIORITIES: [&str; 4] = ["C", "H", "L", "M"];
const UNITS_MAX: u64 = 10_000;

/// Which records of a shard are not ordinary; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Every n-th is not JSON; goes before `unmatched_every`.
    pub bad_every: u64,
    /// Every n-th has the country [`COUNTRY_UNMATCHED`].
    pub unmatched_every: u64,
}

fn nth(index: u64, every: u64) -> bool {
    every > 0 && (index + 1).is_multiple_of(every)
}

/// The payload of record `index` of `shard`; its `uuid` is unique over all shards.
pub fn record(seed: u64, shard: u32, index: u64, options: Options) -> Vec<u8> {
    let mut out = Vec::with_capacity(400);
    append(seed, shard, index, options, &mut out);
    out
}

/// Like [`record`], behind what `out` holds.
pub fn append(seed: u64, shard: u32, index: u64, options: Options, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"uuid\":\"");
    number(u64::from(shard) + 1, 1, out);
    number(index, 12, out);
    if nth(index, options.bad_every) {
        out.extend_from_slice(b"\", broken");
        return;
    }
    let mut random = Random::new(seed, shard, index);
    let countries = &*COUNTRIES;
    let place = random.below(countries.len() as u64) as usize;
    let country = if nth(index, options.unmatched_every) {
        COUNTRY_UNMATCHED
    } else {
        countries[place]
    };
    let (item, price, cost) = ITEMS[random.below(ITEMS.len() as u64) as usize];
    let units = 1 + random.below(UNITS_MAX);
    text("\",\"Country\":\"", country, out);
    text("\",\"ItemType\":\"", item, out);
    text(
        "\",\"SalesChannel\":\"",
        CHANNELS[random.below(2) as usize],
        out,
    );
    text(
        "\",\"OrderPriority\":\"",
        PRIORITIES[random.below(4) as usize],
        out,
    );
    let year = 10 + random.below(8);
    let month = 1 + random.below(11);
    let day = 1 + random.below(28);
    date("\",\"OrderDate\":\"", (month, day, year), out);
    text("\",\"Region\":\"", REGIONS[place % REGIONS.len()], out);
    date("\",\"ShipDate\":\"", (month + 1, day, year), out);
    text("\",\"UnitsSold\":\"", "", out);
    number(units, 1, out);
    cents("\",\"UnitPrice\":\"", price, out);
    cents("\",\"UnitCost\":\"", cost, out);
    cents("\",\"TotalRevenue\":\"", units * price, out);
    cents("\",\"TotalCost\":\"", units * cost, out);
    cents("\",\"TotalProfit\":\"", units * (price - cost), out);
    out.extend_from_slice(b"\"}");
}

fn text(key: &str, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(value.as_bytes());
}

/// The date in the workshop's format: `11/24/12`, without leading zeros in month and day.
fn date(key: &str, (month, day, year): (u64, u64, u64), out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    number(month, 1, out);
    out.push(b'/');
    number(day, 1, out);
    out.push(b'/');
    number(year, 2, out);
}

fn cents(key: &str, cents: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    number(cents / 100, 1, out);
    out.push(b'.');
    number(cents % 100, 2, out);
}

/// Decimal digits with leading zeros up to `width` (at most 20); several times faster than
/// `format!`.
fn number(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while value > 0 {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&digits[at.min(digits.len() - width)..]);
}

/// SplitMix64, started from the record's numbers.
struct Random(u64);

impl Random {
    fn new(seed: u64, shard: u32, index: u64) -> Self {
        Self(mix(mix(seed ^ mix(u64::from(shard))) ^ index))
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        ((mix(self.0) >> 32) * limit) >> 32
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::collections::BTreeSet;

    const KEYS: [&str; 14] = [
        "uuid",
        "Country",
        "ItemType",
        "SalesChannel",
        "OrderPriority",
        "OrderDate",
        "Region",
        "ShipDate",
        "UnitsSold",
        "UnitPrice",
        "UnitCost",
        "TotalRevenue",
        "TotalCost",
        "TotalProfit",
    ];

    #[test]
    fn a_record_has_the_workshops_keys_and_every_value_is_a_string() {
        let value: Value = serde_json::from_slice(&record(7, 3, 41, Options::default())).unwrap();
        let object = value.as_object().unwrap();
        assert_eq!(
            object.keys().collect::<BTreeSet<_>>(),
            KEYS.map(String::from).iter().collect()
        );
        assert!(object.values().all(Value::is_string));
        assert_eq!(object["uuid"], "4000000000041");
    }

    #[test]
    fn the_same_numbers_give_the_same_bytes_and_others_give_others() {
        let plain = Options::default();
        assert_eq!(record(1, 2, 3, plain), record(1, 2, 3, plain));
        let tail = |seed, shard, index| record(seed, shard, index, plain)[23..].to_vec();
        assert_ne!(tail(1, 2, 3), tail(2, 2, 3));
        assert_ne!(tail(1, 2, 3), tail(1, 3, 3));
        assert_ne!(tail(1, 2, 3), tail(1, 2, 4));
    }

    #[test]
    fn every_nth_record_is_bad_or_unmatched_as_asked() {
        let options = Options {
            bad_every: 10,
            unmatched_every: 4,
        };
        for index in 0..40 {
            let parsed: Result<Value, _> = serde_json::from_slice(&record(1, 0, index, options));
            match parsed {
                Err(_) => assert_eq!((index + 1) % 10, 0, "{index}"),
                Ok(value) => assert_eq!(
                    value["Country"] == COUNTRY_UNMATCHED,
                    (index + 1) % 4 == 0,
                    "{index}"
                ),
            }
        }
    }

    #[test]
    fn all_countries_of_the_lookup_come_up() {
        let country = |index| {
            let value: Value =
                serde_json::from_slice(&record(1, 0, index, Options::default())).unwrap();
            value["Country"].as_str().unwrap().to_owned()
        };
        let seen: BTreeSet<String> = (0..5_000).map(country).collect();
        assert_eq!(seen.len(), 249);
        assert!(seen.contains("Namibia") && seen.contains("Åland Islands"));
    }
}
