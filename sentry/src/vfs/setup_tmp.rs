//! tmp
use super::*;
use crate::errno::Result;
use crate::fs::memfs::{MemFs, Options};
use crate::sync::Events;
use alloc::sync::Arc;
use core::any::Any;
/// x
pub fn build_root(c: &abi::spec::ContainerSpec) -> Result<Arc<FsState>> {
    let root = match &c.root.source { abi::spec::MountSource::Overlay { root } => *root, _ => 0 };
    let sb = MemFs::overlay(&Options::default(), Arc::new(crate::fs::hostfs::HostLower::new(root)))?;
    let m = Mount::new(sb.clone(), sb.root.clone(), b"root", 0);
    Ok(FsState::new(MountNs::new(m)))
}
struct S(u32);
impl file::FileOps for S {
    fn write(&self, _: &OpenFile, source: &mut dyn crate::mm::io::Source, _: u64) -> Result<usize> {
        let page = crate::mm::frames::page::KernelPage::alloc()?;
        let mut buf = [0u8; 4096];
        let n = source.take(&mut buf)?;
        page.write(0, &buf[..n]);
        crate::host::streams::write(self.0, &page, n)
    }
    fn read(&self, _: &OpenFile, _s: &mut dyn crate::mm::io::Sink, _: u64) -> Result<usize> { Ok(0) }
    fn poll(&self, _: &OpenFile) -> Events { Events::OUT }
    fn as_any(&self) -> &dyn Any { self }
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> { self }
}
/// x
pub fn open_streams(p: &abi::spec::ProcessSpec, t: &Arc<FdTable>) -> Result<()> {
    for s in &p.streams { t.install(anon::file("stream", Arc::new(S(s.stream)), 2), false, 1024)?; }
    Ok(())
}
