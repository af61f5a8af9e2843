//! Resource limits as `LimitNOFILE=` and its like give them (`rlimit_parse()` in systemd's `rlimit-util.c`).

/// What can be limited: see getrlimit(2) and the table in systemd.exec(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Resource {
    Cpu,
    FileSize,
    Data,
    Stack,
    Core,
    ResidentSet,
    OpenFiles,
    AddressSpace,
    Processes,
    LockedMemory,
    FileLocks,
    PendingSignals,
    MessageQueues,
    Nice,
    RealtimePriority,
    RealtimeTime,
}

/// A soft and a hard limit, in the unit of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// What counts.
    pub soft: u64,
    /// How far the soft one may be raised.
    pub hard: u64,
}

/// Powers of 1024, as `parse_size()` has them.
const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("T", 1 << 40),
    ("P", 1 << 50),
    ("E", 1 << 60),
    ("", 1),
];

const MICROSECONDS_PER_SECOND: u64 = 1_000_000;

/// Units in microseconds, as `parse_time()` has them.
const TIMES: [(&str, u64); 30] = [
    ("seconds", MICROSECONDS_PER_SECOND),
    ("second", MICROSECONDS_PER_SECOND),
    ("sec", MICROSECONDS_PER_SECOND),
    ("s", MICROSECONDS_PER_SECOND),
    ("minutes", 60_000_000),
    ("minute", 60_000_000),
    ("min", 60_000_000),
    ("months", 2_629_800_000_000),
    ("month", 2_629_800_000_000),
    ("M", 2_629_800_000_000),
    ("msec", 1000),
    ("ms", 1000),
    ("m", 60_000_000),
    ("hours", 3_600_000_000),
    ("hour", 3_600_000_000),
    ("hr", 3_600_000_000),
    ("h", 3_600_000_000),
    ("days", 86_400_000_000),
    ("day", 86_400_000_000),
    ("d", 86_400_000_000),
    ("weeks", 604_800_000_000),
    ("week", 604_800_000_000),
    ("w", 604_800_000_000),
    ("years", 31_557_600_000_000),
    ("year", 31_557_600_000_000),
    ("y", 31_557_600_000_000),
    ("usec", 1),
    ("us", 1),
    ("μs", 1),
    ("µs", 1),
];

impl Resource {
    /// All of them, in the kernel's order.
    pub const ALL: [Self; 16] = [
        Self::Cpu,
        Self::FileSize,
        Self::Data,
        Self::Stack,
        Self::Core,
        Self::ResidentSet,
        Self::OpenFiles,
        Self::AddressSpace,
        Self::Processes,
        Self::LockedMemory,
        Self::FileLocks,
        Self::PendingSignals,
        Self::MessageQueues,
        Self::Nice,
        Self::RealtimePriority,
        Self::RealtimeTime,
    ];

    /// Returns its name behind `Limit` and `RLIMIT_`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::FileSize => "FSIZE",
            Self::Data => "DATA",
            Self::Stack => "STACK",
            Self::Core => "CORE",
            Self::ResidentSet => "RSS",
            Self::OpenFiles => "NOFILE",
            Self::AddressSpace => "AS",
            Self::Processes => "NPROC",
            Self::LockedMemory => "MEMLOCK",
            Self::FileLocks => "LOCKS",
            Self::PendingSignals => "SIGPENDING",
            Self::MessageQueues => "MSGQUEUE",
            Self::Nice => "NICE",
            Self::RealtimePriority => "RTPRIO",
            Self::RealtimeTime => "RTTIME",
        }
    }
}

impl Limit {
    /// No limit.
    pub const INFINITE: u64 = u64::MAX;

    /// Reads `SOFT:HARD`, or one value for both. `None` for what systemd ignores.
    #[must_use]
    pub fn parse(resource: Resource, text: &str) -> Option<Self> {
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let limit = Self {
            soft: one(resource, soft)?,
            hard: one(resource, hard)?,
        };
        (limit.soft <= limit.hard).then_some(limit)
    }
}

fn one(resource: Resource, text: &str) -> Option<u64> {
    if text == "infinity" {
        return Some(Limit::INFINITE);
    }
    let value = match resource {
        Resource::Cpu => sum(text, &TIMES, MICROSECONDS_PER_SECOND)?.div_ceil(MICROSECONDS_PER_SECOND),
        Resource::RealtimeTime => sum(text, &TIMES, 1)?,
        Resource::Nice => nice(text)?,
        Resource::OpenFiles
        | Resource::Processes
        | Resource::FileLocks
        | Resource::PendingSignals
        | Resource::RealtimePriority => number(text)?,
        Resource::FileSize
        | Resource::Data
        | Resource::Stack
        | Resource::Core
        | Resource::ResidentSet
        | Resource::AddressSpace
        | Resource::LockedMemory
        | Resource::MessageQueues => sum(text, &SIZES, 1)?,
    };
    (value < Limit::INFINITE).then_some(value)
}

/// With a sign it is a nice level, else the kernel's value for one (`rlimit_parse_nice()`).
fn nice(text: &str) -> Option<u64> {
    let level = |text: &str| text.parse::<i64>().ok().filter(|level| (-20..=19).contains(level));
    match text.as_bytes().first()? {
        b'+' | b'-' => u64::try_from(20 - level(text)?).ok(),
        _ => number(text).filter(|value| (1..=40).contains(value)),
    }
}

/// Digits alone: where systemd also takes hexadecimal ones, nobody writes them.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Adds up numbers with units, as in `1h 30min` or `1.5G`; `plain` is the factor of a number without one.
fn sum(text: &str, units: &[(&str, u64)], plain: u64) -> Option<u64> {
    let mut rest = text.trim();
    let mut total = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, after) = rest.split_at(digits(rest));
        let (fraction, after) = match after.strip_prefix('.') {
            Some(after) => after.split_at(digits(after)),
            None => ("", after),
        };
        let after = after.trim_start();
        let (name, factor) = units
            .iter()
            .find(|(name, _)| !name.is_empty() && after.starts_with(name))
            .copied()
            .unwrap_or(("", plain));
        total = total
            .checked_add(whole.parse::<u64>().ok()?.checked_mul(factor)?)?
            .checked_add(part(fraction, factor)?)?;
        let next = after.get(name.len()..)?.trim_start();
        if next.len() == rest.len() {
            return None;
        }
        rest = next;
    }
    Some(total)
}

/// Returns as much of `factor` as the digits behind a point say.
fn part(fraction: &str, factor: u64) -> Option<u64> {
    if fraction.is_empty() {
        return Some(0);
    }
    let of = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = fraction.parse::<u128>().ok()?.checked_mul(u128::from(factor))? / of;
    u64::try_from(part).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_systemd_takes_them() {
        for (resource, text, want) in [
            (Resource::OpenFiles, "1024", Some((1024, 1024))),
            (Resource::OpenFiles, "1024:infinity", Some((1024, u64::MAX))),
            (Resource::OpenFiles, "2:1", None),
            (Resource::OpenFiles, "1K", None),
            (Resource::OpenFiles, "", None),
            (Resource::OpenFiles, "1:", None),
            (Resource::OpenFiles, "1:2:3", None),
            (Resource::Core, "infinity", Some((u64::MAX, u64::MAX))),
            (Resource::Core, "1K:1.5M", Some((1024, 1_572_864))),
            (
                Resource::AddressSpace,
                "4G 1M",
                Some(((4 << 30) + (1 << 20), (4 << 30) + (1 << 20))),
            ),
            (Resource::AddressSpace, "16E", None),
            (Resource::AddressSpace, "1Q", None),
            (Resource::Cpu, "30", Some((30, 30))),
            (Resource::Cpu, "1min 30s:1h", Some((90, 3600))),
            (Resource::Cpu, "1500ms", Some((2, 2))),
            (Resource::RealtimeTime, "5ms:10", None),
            (Resource::RealtimeTime, "10:5ms", Some((10, 5000))),
            (Resource::Nice, "+5:-5", Some((15, 25))),
            (Resource::Nice, "40", Some((40, 40))),
            (Resource::Nice, "-21", None),
        ] {
            let got = Limit::parse(resource, text).map(|limit| (limit.soft, limit.hard));
            assert_eq!(got, want, "{resource:?} {text:?}");
        }
    }
}
