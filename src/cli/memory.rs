//! How much memory there is to be used.

use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::progress::Memory;

/// What the user allows, else half of what is free: in the machine, the container, and the address space that the process may
/// have.
pub(super) fn allowed(asked: Option<Memory>) -> Memory {
    asked.unwrap_or_else(|| {
        let system = System::new_with_specifics(
            RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()),
        );
        let machine = Some(system.available_memory()).filter(|bytes| *bytes > 0);
        let container = system.cgroup_limits().map(|limits| limits.free_memory);
        let free = [machine, container, address_space()]
            .into_iter()
            .flatten()
            .min();
        free.map_or_else(Memory::default, |free| Memory((free / 2).max(1)))
    })
}

/// What is left of the addresses that the process may use, where there is a limit (`ulimit -v`).
fn address_space() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_whitespace().next()?.parse().ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let used = status
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:"))?;
    let used = used
        .split_whitespace()
        .next()?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)?;
    Some(limit.saturating_sub(used))
}
