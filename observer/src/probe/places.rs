//! An array whose values are read all at once.

use super::bpf_calls::read_array;
use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, Map, MapData};
use aya::{Ebpf, Pod};
use std::os::fd::{AsFd as _, OwnedFd};

/// Places of the programs, by a number that is computed from a key.
pub(super) struct Places<T: Pod> {
    name: &'static str,
    fd: OwnedFd,
    array: Array<MapData, T>,
}

impl<T: Pod> Places<T> {
    /// A handle of an array of the object, which stays there.
    ///
    /// # Errors
    /// When the object lacks it, or its values have another size.
    pub(super) fn new(ebpf: &Ebpf, name: &'static str) -> Result<Self> {
        let Some(Map::Array(map)) = ebpf.map(name) else {
            bail!("the eBPF object has no map {name}");
        };
        let fd = map.fd().as_fd().try_clone_to_owned()?;
        let map = MapData::from_fd(fd.try_clone()?).with_context(|| format!("map {name}"))?;
        let array = Array::try_from(Map::Array(map)).with_context(|| format!("map {name}"))?;
        Ok(Self { name, fd, array })
    }

    /// Every place with its value.
    pub(super) fn all(&self) -> impl Iterator<Item = (u32, T)> + use<T> {
        let read = read_array(self.fd.as_fd(), self.array.len());
        let values = read.unwrap_or_else(|error| {
            tracing::debug!("cannot read the map {}: {error}", self.name);
            Vec::new()
        });
        (0..).zip(values)
    }

    /// Overwrites a place.
    pub(super) fn set(&mut self, place: u32, value: T) {
        // The place exists: it was read.
        let _ = self.array.set(place, value, 0);
    }
}
