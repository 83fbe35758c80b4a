//! The energy that the machine has used, where it tells: RAPL for processors, NVML for NVIDIA GPUs.

use std::path::{Path, PathBuf};

use metrics::counter;
use nvml_wrapper::Nvml;

/// Where Linux shows RAPL's counters.
const POWERCAP: &str = "/sys/class/powercap";

/// The sources of energy readings that this machine has.
pub(crate) struct Meters {
    zones: Vec<Zone>,
    nvml: Option<Nvml>,
}

struct Zone {
    name: String,
    path: PathBuf,
    /// Where the counter wraps around, in microjoules.
    range: u64,
    last: u64,
    joules: f64,
}

impl Meters {
    /// Looks for what there is. Counters need rights that containers often lack: those that cannot be read are left out.
    pub(crate) fn find() -> Self {
        Self { zones: zones(Path::new(POWERCAP)), nvml: Nvml::init().ok() }
    }

    /// Reads every meter into its metric.
    pub(crate) fn read(&mut self) {
        for zone in &mut self.zones {
            if let Some(now) = number(&zone.path.join("energy_uj")) {
                zone.advance(now);
                counter!("quintet_energy_joules_total", "source" => zone.name.clone()).absolute(zone.joules as u64);
            }
        }
        let Some(nvml) = &self.nvml else { return };
        for index in 0..nvml.device_count().unwrap_or(0) {
            if let Ok(device) = nvml.device_by_index(index) {
                let labels = [("source", format!("gpu-{index}"))];
                if let Ok(millijoules) = device.total_energy_consumption() {
                    counter!("quintet_energy_joules_total", &labels).absolute(millijoules / 1000);
                }
                if let Ok(memory) = device.memory_info() {
                    metrics::gauge!("quintet_device_memory_bytes", &labels).set(memory.used as f64);
                }
            }
        }
    }
}

impl Zone {
    fn advance(&mut self, now: u64) {
        let used = if now >= self.last { now - self.last } else { self.range.saturating_sub(self.last) + now };
        self.last = now;
        self.joules += used as f64 / 1e6;
    }
}

fn zones(root: &Path) -> Vec<Zone> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let mut zones: Vec<Zone> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            // Whole packages only: their parts are counted in them.
            let folder = path.file_name()?.to_str()?;
            if !folder.starts_with("intel-rapl:") || folder.matches(':').count() != 1 {
                return None;
            }
            let last = number(&path.join("energy_uj"))?;
            let name = std::fs::read_to_string(path.join("name")).ok()?.trim().to_owned();
            Some(Zone { name, range: number(&path.join("max_energy_range_uj")).unwrap_or(u64::MAX), last, joules: 0.0, path })
        })
        .collect();
    zones.sort_by(|a, b| a.name.cmp(&b.name));
    zones
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_found_and_counters_wrap() {
        let root = tempfile::tempdir().unwrap();
        for (folder, name) in [("intel-rapl:0", "package-0"), ("intel-rapl:0:0", "core"), ("other", "x")] {
            let path = root.path().join(folder);
            std::fs::create_dir(&path).unwrap();
            for (file, text) in [("name", name), ("energy_uj", "9000000"), ("max_energy_range_uj", "10000000")] {
                std::fs::write(path.join(file), format!("{text}\n")).unwrap();
            }
        }
        let mut zones = zones(root.path());
        assert_eq!(zones.iter().map(|zone| zone.name.as_str()).collect::<Vec<_>>(), ["package-0"]);
        zones[0].advance(9_500_000);
        zones[0].advance(1_000_000);
        assert!((zones[0].joules - 2.0).abs() < 1e-9);
    }
}
