//! Networks that a key may come from.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address range in CIDR notation, such as `10.0.0.0/8`; a single address is a range of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// The bits in front of an address of IPv4 that is written as one of IPv6 (RFC 4291, 2.5.5.2).
const IPV4_IN_IPV6: u8 = 96;

impl Network {
    /// Whether every address of the range is in `other` too.
    pub fn is_within(self, other: Self) -> bool {
        self.prefix >= other.prefix && other.contains(self.address)
    }

    /// Whether `address` is in the range. An IPv4 address that came over IPv6 counts as what it is.
    pub fn contains(self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.prefix) == Some(self.address)
    }
}

/// The first address of the range of `prefix` bits that `address` is in; `None` if it has fewer bits.
fn masked(address: IpAddr, prefix: u8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let host = 32_u32.checked_sub(u32::from(prefix))?;
            let network = u32::from(address) & u32::MAX.checked_shl(host).unwrap_or(0);
            Some(Ipv4Addr::from(network).into())
        }
        IpAddr::V6(address) => {
            let host = 128_u32.checked_sub(u32::from(prefix))?;
            let network = u128::from(address) & u128::MAX.checked_shl(host).unwrap_or(0);
            Some(Ipv6Addr::from(network).into())
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |reason: String| format!("`{}` is no network: {reason}", text.escape_debug());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong("write it like 10.0.0.0/8 or 2001:db8::/32".into()))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= most)
                .ok_or_else(|| wrong(format!("the length after `/` is 0 to {most}")))?,
        };
        match masked(address, prefix) {
            // A range of IPv4 addresses counts as one, as each of them does.
            Some(first) if first == address && first.to_canonical() != first && prefix >= IPV4_IN_IPV6 => {
                Ok(Self { address: first.to_canonical(), prefix: prefix - IPV4_IN_IPV6 })
            }
            Some(first) if first == address => Ok(Self { address, prefix }),
            Some(first) => Err(wrong(format!("did you mean {first}/{prefix}?"))),
            None => Err(wrong("the length doesn't fit the address".into())),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Network {
    fn schema_name() -> Cow<'static, str> {
        "Network".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_range_contains_its_addresses_and_no_others() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1/128", "::1", "127.0.0.1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::ffff:128.0.0.1"),
            ("::ffff:127.0.0.0/104", "127.0.0.1", "128.0.0.1"),
        ] {
            let network = network(range);
            assert!(network.contains(address(inside)) && !network.contains(address(outside)), "{range}");
        }
        assert!(network("::/0").contains(address("2001:db8::1")));
    }

    #[test]
    fn a_range_is_within_those_that_have_all_of_its_addresses() {
        for (inner, outer) in [("10.1.0.0/16", "10.0.0.0/8"), ("10.0.0.0/8", "10.0.0.0/8"), ("2001:db8::/48", "::/0")] {
            assert!(network(inner).is_within(network(outer)), "{inner} {outer}");
        }
        for (inner, outer) in [("10.0.0.0/8", "10.0.0.0/16"), ("11.0.0.0/16", "10.0.0.0/8"), ("10.0.0.0/8", "::/0")] {
            assert!(!network(inner).is_within(network(outer)), "{inner} {outer}");
        }
    }

    #[test]
    fn what_is_no_range_is_told_how_to_write_one() {
        for (text, part) in [
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.1/8", "did you mean 10.0.0.0/8?"),
            ("10.0.0/8", "write it like"),
            ("example.org", "write it like"),
            ("::1/-1", "0 to 128"),
            ("::ffff:10.0.0.1/104", "did you mean ::ffff:10.0.0.0/104?"),
        ] {
            let wrong = text.parse::<Network>().unwrap_err();
            assert!(wrong.contains(part), "{text}: {wrong}");
        }
        assert_eq!(network("192.0.2.7").to_string(), "192.0.2.7/32");
    }
}
