//! Energy counters of the processor packages, read through the kernel's powercap interface.
//!
//! ```text
//! /sys/class/powercap/intel-rapl:N/{name, energy_uj, max_energy_range_uj}      one folder per package; it serves AMD processors too
//! joules between two readings = Σ packages (after − before, + range where the counter wrapped) · 1e-6
//! ```
//! Only counters, never power × time: without a readable counter there is a reason instead of a number. The counters are those of the
//! whole machine, so a window also holds what its neighbours used; power at rest is measured apart and stands beside the numbers.
//!
//! Sources: measurement.md section 8; the kernel's "Power Capping Framework" page.

use std::path::{Path, PathBuf};

/// Where the kernel lists the counters.
pub const POWERCAP: &str = "/sys/class/powercap";
/// Seconds between two updates of a counter: about 1 ms on every processor that has one.
const UPDATE_S: f64 = 1e-3;
/// Fewest updates in a window that is reported.
const MIN_UPDATES: f64 = 100.0;
/// Joules per count.
const JOULE_PER_COUNT: f64 = 1e-6;

/// The counter of one package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    counter: PathBuf,
    /// Counts after which it starts from 0.
    range: u64,
}

/// The counters of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters(Vec<Package>);

/// Counts of every package at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading(Vec<u64>);

impl Counters {
    /// The package counters below `root` ([`POWERCAP`]).
    ///
    /// # Errors
    /// Why there are none, in words for a row's reason.
    pub fn find(root: &Path) -> Result<Self, String> {
        let entries = std::fs::read_dir(root).map_err(|_| format!("no energy counter: `{}` does not exist", root.display()))?;
        let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        folders.sort();
        // `intel-rapl-mmio:N` is another door to the same counter: both together would count a package twice.
        let is_package = |folder: &PathBuf| {
            folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("intel-rapl:"))
                && std::fs::read_to_string(folder.join("name")).is_ok_and(|name| name.starts_with("package-"))
        };
        let packages = folders
            .into_iter()
            .filter(is_package)
            .map(|folder| {
                let counter = folder.join("energy_uj");
                number(&counter)?;
                Ok(Package { counter, range: number(&folder.join("max_energy_range_uj"))? })
            })
            .collect::<Result<Vec<_>, String>>()?;
        if packages.is_empty() {
            return Err(format!("no energy counter: `{}` lists no processor package", root.display()));
        }
        Ok(Self(packages))
    }

    /// The counts now.
    ///
    /// # Errors
    /// When a counter cannot be read any more.
    pub fn read(&self) -> Result<Reading, String> {
        self.0.iter().map(|package| number(&package.counter)).collect::<Result<_, _>>().map(Reading)
    }

    /// Joules between two readings `seconds` apart.
    ///
    /// # Errors
    /// When the window holds too few updates of the counters for a number.
    pub fn joules(&self, before: &Reading, after: &Reading, seconds: f64) -> Result<f64, String> {
        if seconds < MIN_UPDATES * UPDATE_S {
            return Err(format!("n too small: expected {MIN_UPDATES} counter updates, found about {:.0}", seconds / UPDATE_S));
        }
        let counts = self.0.iter().zip(before.0.iter().zip(&after.0)).map(|(package, (before, after))| {
            // One wrap at most: a range is hours of full power.
            if after >= before { after - before } else { package.range - before + after }
        });
        Ok(counts.map(|count| count as f64 * JOULE_PER_COUNT).sum())
    }
}

fn number(path: &Path) -> Result<u64, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("no energy counter: `{}`: {error}", path.display()))?;
    text.trim().parse().map_err(|_| format!("no energy counter: `{}` holds no number", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(folder: &Path, name: &str, counter: &str) {
        std::fs::create_dir(folder).unwrap();
        for (file, text) in [("name", name), ("energy_uj", counter), ("max_energy_range_uj", "1000000")] {
            std::fs::write(folder.join(file), format!("{text}\n")).unwrap();
        }
    }

    fn machine(packages: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (at, (name, count)) in packages.iter().enumerate() {
            counter(&root.path().join(format!("intel-rapl:{at}")), name, count);
        }
        root
    }

    #[test]
    fn a_package_with_two_interfaces_counts_once() {
        let root = machine(&[("package-0", "5")]);
        counter(&root.path().join("intel-rapl-mmio:0"), "package-0", "5");
        assert_eq!(Counters::find(root.path()).unwrap().read().unwrap(), Reading(vec![5]));
    }

    #[test]
    fn packages_are_summed_and_a_wrapped_counter_goes_on() {
        let root = machine(&[("package-0", "900000"), ("core", "7"), ("package-1", "100")]);
        let counters = Counters::find(root.path()).unwrap();
        let before = counters.read().unwrap();
        assert_eq!(before, Reading(vec![900_000, 100]));
        // Package 0 wraps at 1 J: 0.1 J to the end and 0.3 J behind it; package 1 adds 0.5 J.
        let joules = counters.joules(&before, &Reading(vec![300_000, 500_100]), 1.0).unwrap();
        assert!((joules - 0.9).abs() < 1e-12, "{joules}");
    }

    #[test]
    fn missing_counters_and_short_windows_have_reasons() {
        let root = machine(&[("psys", "1")]);
        assert!(Counters::find(root.path()).unwrap_err().ends_with("lists no processor package"));
        assert!(Counters::find(&root.path().join("none")).unwrap_err().ends_with("does not exist"));
        let unreadable = machine(&[("package-0", "locked")]);
        assert!(Counters::find(unreadable.path()).unwrap_err().ends_with("holds no number"));
        let counters = Counters::find(machine(&[("package-0", "1")]).path()).unwrap();
        let error = counters.joules(&Reading(vec![1]), &Reading(vec![2]), 0.05).unwrap_err();
        assert_eq!(error, "n too small: expected 100 counter updates, found about 50");
    }
}
