//! The memory functions that the compiler calls. Their bodies are assembler, so that the compiler does not turn them
//! into calls of themselves.

use core::arch::global_asm;

global_asm!(
    r#"
    .text
    # void *memcpy(void *rdi, const void *rsi, size_t rdx)
    .globl memcpy
    .balign 16
memcpy:
    mov rax, rdi
    cmp rdx, 16
    jb 2f
    cmp rdx, 256
    ja 3f
    # 16 to 256 bytes: forward by 16, the last 16 overlapping.
    movups xmm1, [rsi + rdx - 16]
    lea r8, [rdi + rdx - 16]
    cmp rdx, 32
    jbe 5f
1:  movups xmm0, [rsi]
    movups [rdi], xmm0
    add rsi, 16
    add rdi, 16
    cmp rdi, r8
    jb 1b
    movups [r8], xmm1
    ret
5:  movups xmm0, [rsi]
    movups [rdi], xmm0
    movups [r8], xmm1
    ret
3:  mov rcx, rdx
    rep movsb
    ret
2:  cmp edx, 8
    jae 6f
    cmp edx, 4
    jae 7f
    test edx, edx
    jz 9f
    movzx ecx, byte ptr [rsi]
    movzx r8d, byte ptr [rsi + rdx - 1]
    cmp edx, 2
    jbe 8f
    movzx r9d, byte ptr [rsi + 1]
    mov [rdi + 1], r9b
8:  mov [rdi], cl
    mov [rdi + rdx - 1], r8b
9:  ret
6:  mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
7:  mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret

    # void *memmove(void *rdi, const void *rsi, size_t rdx)
    .globl memmove
    .balign 16
memmove:
    mov rax, rdi
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jae memcpy_forward
    # The destination lies in the source, above its start: from the end.
1:  cmp rdx, 8
    jb 2f
    sub rdx, 8
    mov rcx, [rsi + rdx]
    mov [rdi + rdx], rcx
    jmp 1b
2:  test rdx, rdx
    jz 3f
    dec rdx
    mov cl, [rsi + rdx]
    mov [rdi + rdx], cl
    jmp 2b
3:  ret
    # Overlap the other way: strictly forward.
memcpy_forward:
    cmp rdx, 64
    ja 5f
4:  cmp rdx, 8
    jb 6f
    mov rcx, [rsi]
    mov [rdi], rcx
    add rsi, 8
    add rdi, 8
    sub rdx, 8
    jmp 4b
6:  test rdx, rdx
    jz 7f
    mov cl, [rsi]
    mov [rdi], cl
    inc rsi
    inc rdi
    dec rdx
    jmp 6b
7:  ret
5:  mov rcx, rdx
    rep movsb
    ret

    # void *memset(void *rdi, int esi, size_t rdx)
    .globl memset
    .balign 16
memset:
    mov r8, rdi
    cmp rdx, 128
    ja 3f
    movzx eax, sil
    mov rcx, 0x0101010101010101
    imul rax, rcx
1:  cmp rdx, 8
    jb 2f
    mov [rdi], rax
    add rdi, 8
    sub rdx, 8
    jmp 1b
2:  test rdx, rdx
    jz 4f
    mov [rdi], al
    inc rdi
    dec rdx
    jmp 2b
3:  mov eax, esi
    mov rcx, rdx
    rep stosb
4:  mov rax, r8
    ret

    # int memcmp(const void *rdi, const void *rsi, size_t rdx)
    .globl memcmp
    .globl bcmp
    .balign 16
memcmp:
bcmp:
1:  cmp rdx, 8
    jb 2f
    mov rax, [rdi]
    mov rcx, [rsi]
    cmp rax, rcx
    jne 5f
    add rdi, 8
    add rsi, 8
    sub rdx, 8
    jmp 1b
2:  test rdx, rdx
    jz 4f
    movzx eax, byte ptr [rdi]
    movzx ecx, byte ptr [rsi]
    sub eax, ecx
    jne 3f
    inc rdi
    inc rsi
    dec rdx
    jmp 2b
3:  ret
4:  xor eax, eax
    ret
    # The first byte that differs is the most significant of the swapped words.
5:  bswap rax
    bswap rcx
    cmp rax, rcx
    sbb eax, eax
    or eax, 1
    ret

    # size_t strlen(const char *rdi)
    .globl strlen
    .balign 16
strlen:
    xor eax, eax
1:  cmp byte ptr [rdi + rax], 0
    je 2f
    inc rax
    jmp 1b
2:  ret
"#
);
