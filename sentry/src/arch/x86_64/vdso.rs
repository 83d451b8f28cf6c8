//! Code of the vDSO: the clocks in ring 3. It runs in programs, at any address, with its data page
//! ([`crate::loader::vdso`]) right below its image.

use core::arch::global_asm;

/// Offset of the code in the vDSO's page.
pub const CODE_OFFSET: usize = 0x600;

global_asm!(
    r#"
    .section .rodata
    .balign 64
    .globl runsc_vdso_code
runsc_vdso_code:
    .set VVAR, runsc_vdso_code - {code} - 0x1000

    # int clock_gettime(clockid_t edi, struct timespec *rsi)
runsc_vdso_clock_gettime:
    mov eax, edi
    cmp edi, 7
    ja 9f
    mov ecx, 0xf3          # REALTIME, MONOTONIC, MONOTONIC_RAW, both COARSE, BOOTTIME
    bt ecx, edi
    jnc 9f
    call runsc_vdso_now
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov [rsi], rax
    mov [rsi + 8], rdx
    xor eax, eax
    ret
9:  mov eax, 228
    syscall
    ret

    # Nanoseconds of clock edi in rax; changes rcx, rdx, r8 to r11.
runsc_vdso_now:
    lea r8, [rip + VVAR]
2:  mov r9, [r8]
    test r9b, 1
    jnz 3f
    lfence
    rdtsc
    shl rdx, 32
    or rax, rdx
    sub rax, [r8 + 8]
    mul qword ptr [r8 + 16]
    shrd rax, rdx, 32
    add rax, [r8 + 24]
    xor r10d, r10d
    cmp edi, 7
    cmove r10, [r8 + 40]
    test edi, edi
    cmovz r10, [r8 + 32]
    cmp edi, 5
    cmove r10, [r8 + 32]
    add rax, r10
    cmp r9, [r8]
    jne 2b
    ret
3:  pause
    jmp 2b

    # int gettimeofday(struct timeval *rdi, struct timezone *rsi)
runsc_vdso_gettimeofday:
    push rdi
    xor edi, edi
    call runsc_vdso_now
    pop rdi
    test rdi, rdi
    jz 4f
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    mov [rdi], rax
    mov eax, edx
    xor edx, edx
    mov ecx, 1000
    div ecx
    mov [rdi + 8], rax
4:  test rsi, rsi
    jz 5f
    mov qword ptr [rsi], 0
5:  xor eax, eax
    ret

    # time_t time(time_t *rdi)
runsc_vdso_time:
    push rdi
    xor edi, edi
    call runsc_vdso_now
    pop rdi
    xor edx, edx
    mov ecx, 1000000000
    div rcx
    test rdi, rdi
    jz 6f
    mov [rdi], rax
6:  ret

    # int clock_getres(clockid_t edi, struct timespec *rsi)
runsc_vdso_clock_getres:
    mov eax, 229
    syscall
    ret
    .globl runsc_vdso_end
runsc_vdso_end:
    .balign 8
    .globl runsc_vdso_table
runsc_vdso_table:
    .quad runsc_vdso_clock_gettime - runsc_vdso_code
    .quad runsc_vdso_gettimeofday - runsc_vdso_code
    .quad runsc_vdso_time - runsc_vdso_code
    .quad runsc_vdso_clock_getres - runsc_vdso_code
    .text
"#,
    code = const CODE_OFFSET,
);

unsafe extern "C" {
    static runsc_vdso_code: u8;
    static runsc_vdso_end: u8;
    static runsc_vdso_table: [u64; 4];
}

/// The code.
pub fn code() -> &'static [u8] {
    // SAFETY: both symbols bound one read-only object.
    unsafe {
        let start = &raw const runsc_vdso_code;
        let len = (&raw const runsc_vdso_end).addr() - start.addr();
        core::slice::from_raw_parts(start, len)
    }
}

/// Offsets in the code of clock_gettime, gettimeofday, time and clock_getres.
pub fn entries() -> [u64; 4] {
    // SAFETY: the table is read-only data of this image.
    unsafe { runsc_vdso_table }
}
