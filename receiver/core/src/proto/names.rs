//! Values of enumerations in configuration files: by name, as Hubble's JSON has them, or by number.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize)]
#[serde(untagged)]
enum NameOrNumber {
    Name(String),
    Number(i32),
}

macro_rules! names {
    ($($(#[$doc:meta])* $module:ident: $kind:ident),*) => {$(
        $(#[$doc])*
        pub mod $module {
            use super::*;
            use crate::proto::flow::$kind;

            /// All names.
            pub fn names() -> impl Iterator<Item = &'static str> {
                // The largest number is that of a drop reason, 225.
                (0..1024).filter_map(|number| Some($kind::try_from(number).ok()?.as_str_name()))
            }

            /// Reads names and numbers.
            ///
            /// # Errors
            /// A name that the schema does not have.
            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<i32>, D::Error> {
                Vec::<NameOrNumber>::deserialize(from)?
                    .into_iter()
                    .map(|value| match value {
                        NameOrNumber::Number(number) => Ok(number),
                        NameOrNumber::Name(name) => $kind::from_str_name(&name.to_ascii_uppercase())
                            .or_else(|| $kind::from_str_name(&name))
                            .map(|value| value as i32)
                            .ok_or_else(|| D::Error::custom(format!("`{name}` is no {}", stringify!($kind)))),
                    })
                    .collect()
            }

            /// Writes names; numbers that have none as they are.
            ///
            /// # Errors
            /// Those of the serializer.
            pub fn serialize<S: Serializer>(values: &[i32], to: S) -> Result<S::Ok, S::Error> {
                #[derive(Serialize)]
                #[serde(untagged)]
                enum Out {
                    Name(&'static str),
                    Number(i32),
                }
                to.collect_seq(values.iter().map(|&number| {
                    $kind::try_from(number).map_or(Out::Number(number), |value| Out::Name(value.as_str_name()))
                }))
            }
        }
    )*};
}

names! {
    /// `FORWARDED`, `DROPPED`, …
    verdict: Verdict,
    /// `POLICY_DENIED`, …
    dropreason: DropReason,
    /// `INGRESS`, `EGRESS`.
    trafficdirection: TrafficDirection,
    /// `IPv4`, `IPv6`.
    ipversion: IpVersion
}

#[cfg(test)]
mod tests {
    use crate::proto::flow::{DropReason, FlowFilter, TrafficDirection, Verdict};

    #[test]
    fn a_filter_reads_schema_names_and_camel_case() {
        let text = r#"{"source_pod":["default/"],"destinationPort":["80"],"verdict":["DROPPED",4],"traffic_direction":["egress"],
            "ip_version":["IPv6"],"drop_reason_desc":["POLICY_DENIED"],"tcp_flags":[{"SYN":true}],
            "event_type":[{"type":4,"matchSubType":true}],"source_workload":[{"kind":"Deployment"}],
            "experimental":{"cel_expression":["true"]}}"#;
        let filter: FlowFilter = serde_json::from_str(text).unwrap();
        assert_eq!(filter.source_pod, ["default/"]);
        assert_eq!(filter.destination_port, ["80"]);
        assert_eq!(
            filter.verdict,
            [Verdict::Dropped as i32, Verdict::Audit as i32]
        );
        assert_eq!(filter.traffic_direction, [TrafficDirection::Egress as i32]);
        assert_eq!(filter.ip_version, [2]);
        assert_eq!(filter.drop_reason_desc, [DropReason::PolicyDenied as i32]);
        assert!(filter.tcp_flags[0].syn && !filter.tcp_flags[0].ack);
        assert!(filter.event_type[0].match_sub_type);
        let written = serde_json::to_string(&filter).unwrap();
        assert!(
            written.contains(r#""verdict":["DROPPED","AUDIT"]"#),
            "{written}"
        );
        assert_eq!(
            serde_json::from_str::<FlowFilter>(&written).unwrap(),
            filter
        );
    }

    #[test]
    fn a_wrong_key_or_name_is_named() {
        let wrong = |text| {
            serde_json::from_str::<FlowFilter>(text)
                .unwrap_err()
                .to_string()
        };
        assert!(wrong(r#"{"source_pot":[]}"#).contains("source_pot"));
        assert!(wrong(r#"{"verdict":["GONE"]}"#).contains("`GONE` is no Verdict"));
    }
}
