use super::super::memory::tests::PageMap;
use super::*;
use probe_ebpf::python::tables::CPYTHON_3_11 as LAYOUT;
use proptest::prelude::*;

static LAYOUT_3_11: Layout = LAYOUT;

#[test]
fn garbage() {
    let _ = PageMap::default();
    let _ = &LAYOUT_3_11;
}
