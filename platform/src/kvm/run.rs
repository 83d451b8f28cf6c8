//! The loop of a vCPU thread: run, serve what it exits for, run on.

use std::convert::Infallible;
use std::sync::Arc;

use abi::boot::{CPU_HOSTCALL, VECTOR_IPI};
use abi::hostcall::{HOSTCALL_PORT, HostCallBlock};
use kvm_bindings::kvm_msi;
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

use super::interrupt::MSI_ADDRESS;
use super::layout::cpu_area;
use super::{KvmMachine, vcpu};
use crate::host::Served;
use crate::memory::GuestMemory;
use crate::{Error, HostServices, Outcome};

/// Most faults of pages of images in a row that are no end: other pages of memory can fail too.
const MAX_FAULTS: u32 = 100;

/// What a vCPU thread works with.
struct Cpu {
    index: u32,
    fd: VcpuFd,
    vm: Arc<VmFd>,
    common: Arc<vcpu::Common>,
    memory: Arc<GuestMemory>,
    services: Arc<HostServices>,
}

/// Runs the boot vCPU on this thread until the sandbox ends.
pub fn boot(machine: KvmMachine, services: Arc<HostServices>) -> Result<Infallible, Error> {
    let KvmMachine { vm, boot, common, memory } = machine;
    Cpu { index: 0, fd: boot, vm, common, memory, services }.run()
}

impl Cpu {
    fn run(mut self) -> Result<Infallible, Error> {
        let mut faults = 0;
        loop {
            let ran = self.fd.run();
            self.services.count_exit();
            // A page of an image that cannot be read: the file has become shorter. It reads as zeros now, and the guest
            // hears of it before it runs a program on.
            if let Err(e) = &ran
                && e.errno() == libc::EFAULT
                && faults < MAX_FAULTS
                && self.memory.check_images()
            {
                faults += 1;
                self.interrupt_programs();
                continue;
            }
            faults = 0;
            match ran {
                Ok(VcpuExit::IoOut(HOSTCALL_PORT, _)) => self.host_call(),
                Ok(VcpuExit::IoapicEoi(_) | VcpuExit::Intr | VcpuExit::IrqWindowOpen) => {}
                Ok(exit) => {
                    let what = format!("{exit:?}");
                    let text = self.diagnose(&what);
                    self.services.end(&Outcome::Failed(text));
                }
                Err(e) if matches!(e.errno(), libc::EINTR | libc::EAGAIN) => {}
                Err(e) => {
                    let what = format!("KVM_RUN failed: {}", std::io::Error::from_raw_os_error(e.errno()));
                    let text = self.diagnose(&what);
                    self.services.end(&Outcome::Failed(text));
                }
            }
        }
    }

    /// Interrupts the programs that vCPUs may be in.
    fn interrupt_programs(&self) {
        for cpu in 0..self.common.cpus {
            let msi = kvm_msi {
                address_lo: MSI_ADDRESS | cpu << 12,
                data: u32::from(VECTOR_IPI),
                ..Default::default()
            };
            // Where it fails, the guest finds out at the next interrupt.
            let _ = self.vm.signal_msi(msi);
        }
    }

    fn host_call(&mut self) {
        let at = cpu_area(self.index) + CPU_HOSTCALL;
        let Ok(mut block) = self.memory.read_struct::<HostCallBlock>(at) else { return };
        block.ret = match self.services.serve(&block) {
            Served::Return(ret) => ret,
            Served::StartCpus => self.start_others(),
            Served::End(outcome) => self.services.end(&outcome),
        };
        let ret = at + std::mem::offset_of!(HostCallBlock, ret) as u64;
        let _ = self.memory.write_struct(ret, &block.ret);
    }

    /// Starts the threads of the further vCPUs, each of which makes its own.
    fn start_others(&self) -> i64 {
        for index in 1..self.common.cpus {
            let vm = Arc::clone(&self.vm);
            let common = Arc::clone(&self.common);
            let memory = Arc::clone(&self.memory);
            let services = Arc::clone(&self.services);
            let body = move || {
                let ran = vcpu::create(&vm, &common, index).and_then(|fd| {
                    Cpu { index, fd, vm, common, memory, services: Arc::clone(&services) }.run()
                });
                let Err(error) = ran;
                services.end(&Outcome::Failed(format!("vCPU {index}: {error}")))
            };
            if let Err(e) =
                std::thread::Builder::new().name(format!("vcpu{index}")).stack_size(256 << 10).spawn(body)
            {
                self.services.end(&Outcome::Failed(format!("cannot start the thread of vCPU {index}: {e}")));
            }
        }
        0
    }

    /// A description of a vCPU that stopped, for a bug report.
    fn diagnose(&mut self, what: &str) -> String {
        let run = self.fd.get_kvm_run();
        let reason = run.exit_reason;
        // SAFETY: `internal` is plain data of the union and is printed only; for other exit reasons it is whatever
        // KVM left there, which is still a valid value.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        let mut text =
            format!("the machine stopped: vCPU {} left KVM_RUN: {what} (exit reason {reason}", self.index);
        if reason == kvm_bindings::KVM_EXIT_INTERNAL_ERROR {
            text += &format!(", suberror {}, data {:x?}", internal.suberror, internal.data);
        }
        text.push(')');
        if let Ok(r) = self.fd.get_regs() {
            text += &format!(
                "\n rip {:016x} rsp {:016x} rflags {:08x}\n rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}\n \
                 rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}\n r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}\n \
                 r13 {:016x} r14 {:016x} r15 {:016x}",
                r.rip,
                r.rsp,
                r.rflags,
                r.rax,
                r.rbx,
                r.rcx,
                r.rdx,
                r.rsi,
                r.rdi,
                r.rbp,
                r.r8,
                r.r9,
                r.r10,
                r.r11,
                r.r12,
                r.r13,
                r.r14,
                r.r15
            );
        }
        if let Ok(s) = self.fd.get_sregs() {
            text += &format!(
                "\n cr0 {:x} cr2 {:016x} cr3 {:016x} cr4 {:x} efer {:x} cs {:x} ss {:x} gs {:016x} fs {:016x}",
                s.cr0, s.cr2, s.cr3, s.cr4, s.efer, s.cs.selector, s.ss.selector, s.gs.base, s.fs.base
            );
        }
        text
    }
}
