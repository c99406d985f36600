//! Times and periods as people write them.

use std::time::Duration;

use clap::Args;
use kernel::{Clock as _, SystemClock, Timestamp, Zone};
use serde::Serialize;
use serde_json::Value;

use super::server::{Server, path};
use crate::failure::usage;

/// A period of the past.
#[derive(Clone, Debug, Args)]
pub(crate) struct Period {
    /// A month, such as 2026-11
    #[arg(long, value_name = "MONTH", conflicts_with_all = ["from", "to"])]
    month: Option<String>,
    /// From this instant on, or from the beginning of this day or month
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to this instant, or up to the beginning of this day or month
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Where days and months begin [default: the organization's time zone; UTC for all of them]
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<Zone>,
}

/// A period as the server is asked for it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Bounds {
    pub(crate) from: Option<Timestamp>,
    pub(crate) to: Option<Timestamp>,
}

impl Period {
    /// The instants between which it lies; its days are those of this organization.
    pub(crate) async fn bounds(
        &self,
        server: &Server,
        org: Option<&str>,
    ) -> anyhow::Result<Bounds> {
        if let Some(month) = &self.month {
            let span = self.zone(server, org).await?.named(month);
            let span = span.filter(|_| month.len() == "2026-11".len());
            let span =
                span.ok_or_else(|| usage(format!("{month:?} is no month such as 2026-11")))?;
            return Ok(Bounds { from: Some(span.start), to: Some(span.end) });
        }
        let from = self.beginning(self.from.as_deref(), server, org).await?;
        let to = self.beginning(self.to.as_deref(), server, org).await?;
        Ok(Bounds { from, to })
    }

    /// The instant that is meant, or the first of the day or month that is.
    async fn beginning(
        &self,
        text: Option<&str>,
        server: &Server,
        org: Option<&str>,
    ) -> anyhow::Result<Option<Timestamp>> {
        let Some(text) = text else { return Ok(None) };
        if let Some(instant) = instant(text) {
            return Ok(Some(instant));
        }
        let span = self.zone(server, org).await?.named(text).ok_or_else(|| {
            usage(format!("{text:?} is no time: write 2026-11-21T08:00:00Z, 2026-11-21 or 2026-11"))
        })?;
        Ok(Some(span.start))
    }

    /// The same where both ends are needed.
    pub(crate) async fn whole(&self, server: &Server, org: Option<&str>) -> anyhow::Result<Bounds> {
        let bounds = self.bounds(server, org).await?;
        if bounds.from.is_none() || bounds.to.is_none() {
            return Err(usage("name the period: --month 2026-11, or --from and --to"));
        }
        Ok(bounds)
    }

    async fn zone(&self, server: &Server, org: Option<&str>) -> anyhow::Result<Zone> {
        match (&self.time_zone, org) {
            (Some(zone), _) => Ok(zone.clone()),
            (None, None) => Ok(Zone::default()),
            (None, Some(org)) => zone_of(server, org).await,
        }
    }

    /// The time zone that was asked for.
    pub(crate) fn time_zone(&self) -> Option<String> {
        self.time_zone.as_ref().map(ToString::to_string)
    }
}

/// An organization's time zone.
pub(crate) async fn zone_of(server: &Server, org: &str) -> anyhow::Result<Zone> {
    let limits = server.get(&path(&["admin", "orgs", org, "limits"]), &Value::Null).await?;
    let limits: Value = serde_json::from_str(&limits)?;
    let name = limits.get("time_zone").and_then(Value::as_str).unwrap_or_default();
    Ok(name.parse()?)
}

fn instant(text: &str) -> Option<Timestamp> {
    serde_json::from_value(Value::from(text)).ok()
}

/// An instant to come: RFC 3339, or so long from now, such as `90d`, `12h`, `30m`.
pub(crate) fn future(text: &str) -> Result<Timestamp, String> {
    instant(text).map_or_else(|| from_now(text), Ok)
}

/// So long from now, such as `2h`.
pub(crate) fn from_now(text: &str) -> Result<Timestamp, String> {
    let wrong = || format!("{text:?} is no time to come such as 2h, 90d or 2026-11-21T08:00:00Z");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count = text.strip_suffix(unit).and_then(|count| count.parse::<u64>().ok());
    let span = count.and_then(|count| count.checked_mul(seconds)).ok_or_else(wrong)?;
    Ok(SystemClock.now().after(Duration::from_secs(span)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_to_come_are_instants_or_spans() {
        let now = SystemClock.now();
        let hours = future("2h").unwrap().since(now).as_secs();
        assert!((7_200..7_210).contains(&hours), "{hours}");
        assert_eq!(
            future("2030-01-01T00:00:00Z").unwrap().to_string(),
            "2030-01-01T00:00:00.000000Z"
        );
        for text in ["", "h", "2", "2w", "-2h", "2hh", "99999999999999999999d", "tomorrow"] {
            assert!(future(text).is_err(), "{text}");
        }
    }
}
