//! List prices of AWS in us-east-1, in US dollars.
//!
//! Owns: the defaults, replacing one of them. Does not own: how much of each is needed (`sizes`).
//! Rule: each price names the page that it is on, and can be replaced on the command line.

use std::collections::BTreeMap;
use streamctl_proto::nearest;

/// When the prices were written down.
pub const OF: &str = "2026-12";

/// A price of one unit.
#[derive(Clone, Copy, Debug)]
pub struct Price {
    pub name: &'static str,
    pub dollars: f64,
    pub unit: &'static str,
    pub page: &'static str,
}

macro_rules! prices {
    ($($constant:ident = $name:literal, $dollars:literal, $unit:literal, $page:literal;)+) => {
        $(pub const $constant: &str = $name;)+
        pub const PRICES: &[Price] = &[
            $(Price { name: $name, dollars: $dollars, unit: $unit, page: $page },)+
        ];
    };
}

prices! {
    FARGATE_VCPU = "fargate-vcpu", 0.04048, "vCPU-hour", "aws.amazon.com/fargate/pricing";
    FARGATE_GB = "fargate-gb", 0.004445, "GB-hour", "aws.amazon.com/fargate/pricing";
    S3_PUT = "s3-put", 0.005, "1,000 requests", "aws.amazon.com/s3/pricing";
    GLUE_DPU = "glue-dpu", 0.44, "DPU-hour", "aws.amazon.com/glue/pricing";
    FLINK_KPU = "flink-kpu", 0.11, "KPU-hour", "aws.amazon.com/managed-service-apache-flink/pricing";
    FLINK_STORAGE = "flink-storage", 0.10, "GB-month", "aws.amazon.com/managed-service-apache-flink/pricing";
    FIREHOSE_GB = "firehose-gb", 0.029, "GB, first 500 TB", "aws.amazon.com/firehose/pricing";
    FIREHOSE_PARQUET_GB = "firehose-parquet-gb", 0.018, "GB", "aws.amazon.com/firehose/pricing";
    KINESIS_SHARD = "kinesis-shard", 0.015, "shard-hour", "aws.amazon.com/kinesis/data-streams/pricing";
    KINESIS_PUT = "kinesis-put", 0.014, "million units of 25 KB", "aws.amazon.com/kinesis/data-streams/pricing";
    KINESIS_FANOUT = "kinesis-fanout", 0.015, "consumer-shard-hour", "aws.amazon.com/kinesis/data-streams/pricing";
    KINESIS_FANOUT_GB = "kinesis-fanout-gb", 0.013, "GB", "aws.amazon.com/kinesis/data-streams/pricing";
}

/// The prices that count.
#[derive(Clone, Debug)]
pub struct Prices(BTreeMap<&'static str, f64>);

impl Prices {
    /// The list's, but for these.
    pub fn with(replaced: &[Replaced]) -> Self {
        let listed = PRICES.iter().map(|price| (price.name, price.dollars));
        let replaced = replaced.iter().map(|price| (price.name, price.dollars));
        Self(listed.chain(replaced).collect())
    }

    pub fn of(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(f64::NAN)
    }
}

/// A price of the user's own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replaced {
    pub name: &'static str,
    pub dollars: f64,
}

impl Replaced {
    /// Reads `glue-dpu=0.40`.
    ///
    /// # Errors
    /// What can be written instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, dollars) = text
            .split_once('=')
            .ok_or("write NAME=DOLLARS, such as glue-dpu=0.40")?;
        let names = || PRICES.iter().map(|price| price.name);
        let Some(name) = names().find(|known| *known == name) else {
            return Err(match nearest(name, names()) {
                Some(like) => format!("there is no price {name:?}: did you mean {like}?"),
                None => format!(
                    "there is no price {name:?}: there are {}",
                    names().collect::<Vec<_>>().join(", ")
                ),
            });
        };
        match dollars.parse::<f64>() {
            Ok(dollars) if dollars.is_finite() && dollars >= 0.0 => Ok(Self { name, dollars }),
            _ => Err(format!("{dollars:?} is no price in dollars")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_of_the_users_own_takes_the_place_of_the_lists() {
        let own = Replaced::parse("glue-dpu=0.29").unwrap();
        let prices = Prices::with(&[own]);
        assert_eq!(prices.of(GLUE_DPU), 0.29);
        assert_eq!(prices.of(S3_PUT), 0.005);
        for (wrong, hint) in [
            ("glue-dpu", "NAME=DOLLARS"),
            ("glue-dpus=1", "did you mean glue-dpu?"),
            ("glue-dpu=-1", "no price"),
            ("glue-dpu=NaN", "no price"),
        ] {
            let refused = Replaced::parse(wrong).unwrap_err();
            assert!(refused.contains(hint), "{wrong}: {refused}");
        }
    }
}
