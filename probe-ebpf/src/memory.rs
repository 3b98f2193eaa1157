//! Reads the memory of an observed process.
//!
//! The observed process is untrusted: an address may be garbage, and the memory may change while it
//! is read. Every read can fail, none can panic.

/// A failed read: the address is not mapped or not readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// A process's memory: `bpf_probe_read_user` in the kernel, `process_vm_readv` in userspace, bytes in
/// tests.
pub trait Memory {
    /// Fills all of `buf` from `address`.
    ///
    /// # Errors
    /// [`Fault`] when any byte of the range cannot be read.
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Fault>;

    /// The pointer-sized little-endian word at `address`.
    ///
    /// # Errors
    /// As [`Memory::read`].
    #[inline(always)]
    fn word(&self, address: u64) -> Result<u64, Fault> {
        let mut buf = [0; 8];
        self.read(address, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }

    /// Fills `words` from `address`, at the cost of one read.
    ///
    /// # Errors
    /// As [`Memory::read`].
    #[inline(always)]
    fn words(&self, address: u64, words: &mut [u64]) -> Result<(), Fault> {
        let addresses = (0_u64..).map(|n| address.wrapping_add(n * 8));
        for (word, at) in words.iter_mut().zip(addresses) {
            *word = self.word(at)?;
        }
        Ok(())
    }

    /// The word at `address`; 0 if it cannot be read. Use it where 0 serves as an error: the verifier
    /// then walks one path instead of two.
    #[inline(always)]
    fn peek(&self, address: u64) -> u64 {
        self.word(address).unwrap_or(0)
    }
}
