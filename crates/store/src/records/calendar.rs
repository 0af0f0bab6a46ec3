//! Times as records have them: UTC, as ISO 8601 says.

use clock::WallTime;

/// A day, which can be compared and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    /// As the calendar counts them.
    pub year: u64,
    /// From 1 on.
    pub month: u64,
    /// From 1 on.
    pub day: u64,
}

impl Day {
    /// That of a time.
    pub fn of(time: WallTime) -> Self {
        // A year that begins in March has its odd day at its end, and the calendar repeats after 400 years.
        const DAYS_FROM_MARCH_OF_YEAR_0: u64 = 719_468;
        const DAYS_OF_400_YEARS: u64 = 146_097;
        let days = time.as_secs() / 86_400 + DAYS_FROM_MARCH_OF_YEAR_0;
        let (era, of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        Self { year: era * 400 + year_of_era + u64::from(month <= 2), month, day }
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { year, month, day } = self;
        write!(formatter, "{year:04}-{month:02}-{day:02}")
    }
}

/// A time with its milliseconds.
pub fn utc(time: WallTime) -> String {
    format!("{}T{}Z", Day::of(time), of_day(time))
}

/// The same as databases write it.
pub fn sql_time(time: WallTime) -> String {
    format!("{} {}", Day::of(time), of_day(time))
}

fn of_day(time: WallTime) -> String {
    let (second, part) = (time.as_secs() % 86_400, time.as_millis() % 1_000);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{part:03}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar_in_leap_years_too() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(WallTime::from_millis(seconds * 1_000)), text);
        }
        assert_eq!(utc(WallTime::from_millis(1_800_000_000_123)), "2027-01-15T08:00:00.123Z");
    }
}
