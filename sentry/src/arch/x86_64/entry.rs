//! Entry from ring 3 and return to it, exceptions of ring 0, the switch of kernel stacks, the first instruction.
//!
//! An entry leaves the program's registers in the task's [`UserContext`]: SYSCALL entries load its end from the
//! per-CPU area (GS:16), exceptions and interrupts from TSS.rsp0, so that the CPU pushes straight into it. It then
//! goes on behind [`enter_user`](super::port::enter_user), on the task's kernel stack (GS:8).

use core::arch::global_asm;

use super::context::UserContext;
use core::mem::offset_of;

global_asm!(
    r#"
    .macro PUSH_REGS
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    .endm
    .macro POP_REGS
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
    .endm
    .macro SAVE_XMM
    .set i, 0
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps [rsp + {xmm} + \n*16], xmm\n
    .endr
    stmxcsr [rsp + {mxcsr}]
    ldmxcsr [rip + runsc_default_mxcsr]
    .endm
    # Where SYSCALL has left the program's registers as they were: the task's context, from its end.
    .macro PUSH_CALL
    mov gs:[24], rsp
    mov rsp, gs:[16]
    push 0x2b
    push qword ptr gs:[24]
    push r11
    push 0x33
    push rcx
    push rax
    push 256
    PUSH_REGS
    .endm
    # Leaves the kernel's registers on its stack and loads the program's (rdi: its context), but for what the return to
    # ring 3 takes from the stack.
    .macro LOAD_USER
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov gs:[8], rsp
    mov rsp, rdi
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps xmm\n, [rsp + {xmm} + \n*16]
    .endr
    ldmxcsr [rsp + {mxcsr}]
    POP_REGS
    add rsp, 16
    .endm

    .section .rodata
    .balign 4
runsc_default_mxcsr: .long 0x1f80

    .text
    # SYSCALL on a paravirtual hypervisor: GS is the kernel's already.
    .globl runsc_syscall_pvm
    .balign 16
runsc_syscall_pvm:
    PUSH_CALL
    cld
runsc_user_entered:
    SAVE_XMM
    mov rsp, gs:[8]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

    # SYSCALL on VMX or SVM.
    .globl runsc_syscall_hw
    .balign 16
runsc_syscall_hw:
    swapgs
    PUSH_CALL
    jmp runsc_user_entered

    # extern "C" fn runsc_enter_user_pvm(ctx: *mut UserContext)
    .globl runsc_enter_user_pvm
    .balign 16
runsc_enter_user_pvm:
    LOAD_USER
    int 0x17
    ud2

    .globl runsc_enter_user_hw
    .balign 16
runsc_enter_user_hw:
    LOAD_USER
    swapgs
    iretq

    # Exceptions and interrupts. On the stack: vector, error code, then what the CPU pushed.
    .macro TRAPS name, entered
    .balign 16
\name\()_common:
    test byte ptr [rsp + 24], 3
    jz runsc_kernel_trap_entry
    \entered
    PUSH_REGS
    cld
    jmp runsc_user_entered
    .globl \name
    .balign 16
\name:
    .set v, 0
    .rept 256
    .balign 16
    .if (v==8)||(v==10)||(v==11)||(v==12)||(v==13)||(v==14)||(v==17)||(v==21)||(v==29)||(v==30)
    .else
    push 0
    .endif
    push v
    jmp \name\()_common
    .set v, v+1
    .endr
    .endm
    TRAPS runsc_vectors_pvm, nop
    TRAPS runsc_vectors_hw, swapgs

    # A trap of ring 0: on the current stack, or an IST stack.
runsc_kernel_trap_entry:
    PUSH_REGS
    cld
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    sub rsp, 272
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps [rsp + \n*16], xmm\n
    .endr
    call {kernel_trap}
    .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
    movaps xmm\n, [rsp + \n*16]
    .endr
    mov rsp, rbp
    POP_REGS
    add rsp, 16
    iretq

    # extern "C" fn runsc_switch(save: *mut u64, load: u64)
    .globl runsc_switch
    .balign 16
runsc_switch:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov [rdi], rsp
    mov rsp, rsi
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret

    # First frame of a new kernel stack.
    .globl runsc_task_entry
    .balign 16
runsc_task_entry:
    xor ebp, ebp
    call {task_start}
    ud2

    # extern "C" fn runsc_xrstor(area, mask) -> u64: 0, or 1 where the state is not valid.
    .globl runsc_xrstor
    .balign 16
runsc_xrstor:
    mov eax, esi
    mov rdx, rsi
    shr rdx, 32
    .globl runsc_xrstor_insn
runsc_xrstor_insn:
    xrstor64 [rdi]
    xor eax, eax
    ret
    .globl runsc_xrstor_fixup
runsc_xrstor_fixup:
    mov eax, 1
    ret

    # Every vCPU begins here: see abi::boot::ImageHeader::start.
    .section .head.text, "ax"
    .globl runsc_start
runsc_start:
    test rcx, rcx
    jz 1f
    wrmsr
1:  xor ebp, ebp
    and rsp, -16
    call {boot}
    ud2
    .text
"#,
    xmm = const offset_of!(UserContext, xmm),
    mxcsr = const offset_of!(UserContext, mxcsr),
    kernel_trap = sym super::traps::kernel_trap,
    task_start = sym super::stack::task_start,
    boot = sym super::boot::start,
);

unsafe extern "C" {
    pub(super) fn runsc_enter_user_pvm(ctx: *mut UserContext);
    pub(super) fn runsc_enter_user_hw(ctx: *mut UserContext);
    pub(super) fn runsc_switch(save: *mut u64, load: u64);
    pub(super) fn runsc_task_entry();
    pub(super) fn runsc_xrstor(area: *const u8, mask: u64) -> u64;
    pub(super) static runsc_xrstor_insn: u8;
    pub(super) static runsc_xrstor_fixup: u8;
    pub(super) static runsc_vectors_pvm: u8;
    pub(super) static runsc_vectors_hw: u8;
    /// SYSCALL entry, flavour pvm.
    pub fn runsc_syscall_pvm();
    /// SYSCALL entry, flavour hardware.
    pub fn runsc_syscall_hw();
    /// First instruction of every vCPU.
    pub fn runsc_start();
}
