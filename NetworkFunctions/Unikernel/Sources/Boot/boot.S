// From the PVH entry (32-bit, paging off) to Swift, and what only instructions can say.
// Layout: kernel.ld. Pages: the text is executed and not written, the rest is not executed, the
// page under the stack is absent, and so is the first.

    .section .note.Xen, "a", @note
    .long 4, 4, 18              // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long pvh_entry

    .section .text.boot, "ax", @progbits
    .code32
    .globl pvh_entry
pvh_entry:
    cld
    movl %ebx, %esi             // hvm_start_info
    // PML4[0] -> PDPT; PDPT[0] -> the first GiB, PDPT[3] -> the fourth.
    movl $pdpt + 3, pml4
    movl $pd_low + 3, pdpt
    movl $pd_high + 3, pdpt + 24
    // The first 2 MiB in pages of 4 KiB.
    movl $pt_low + 3, pd_low
    movl $pt_low, %edi
    movl $0x1000, %eax
    addl $8, %edi
1:  movl %eax, %edx
    orl $3, %edx                // present, writable
    movl $0x80000000, %ecx      // not executable
    cmpl $__text_start, %eax
    jb 3f
    cmpl $__text_end, %eax
    jae 2f
    xorl %ecx, %ecx
    andl $~2, %edx
    jmp 3f
2:  cmpl $__rodata_end, %eax
    jae 3f
    andl $~2, %edx
3:  cmpl $__guard, %eax
    jne 4f
    xorl %edx, %edx
    xorl %ecx, %ecx
4:  movl %edx, (%edi)
    movl %ecx, 4(%edi)
    addl $8, %edi
    addl $0x1000, %eax
    cmpl $0x200000, %eax
    jb 1b
    // The rest of the first GiB in pages of 2 MiB, never executed.
    movl $pd_low + 8, %edi
1:  movl %eax, %edx
    orl $0x83, %edx
    movl %edx, (%edi)
    movl $0x80000000, 4(%edi)
    addl $8, %edi
    addl $0x200000, %eax
    cmpl $0x40000000, %eax
    jb 1b
    // Devices: the last 24 MiB below 4 GiB, without cache.
    movl $pd_high + 500 * 8, %edi
    movl $0xfe800000, %eax
    movl $12, %ebx
1:  movl %eax, %edx
    orl $0x93, %edx
    movl %edx, (%edi)
    movl $0x80000000, 4(%edi)
    addl $8, %edi
    addl $0x200000, %eax
    decl %ebx
    jnz 1b

    movl $pml4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x620, %eax            // PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl $0xc0000080, %ecx      // EFER: LME, NXE
    rdmsr
    orl $0x900, %eax
    wrmsr
    movl %cr0, %eax
    andl $~0x4, %eax            // EM
    orl $0x80010002, %eax       // PG, WP, MP
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $long_mode

    .code64
long_mode:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    // A segment and not none: from the first interrupt on, QEMU's state would differ by what it
    // returns to, and all code be translated once more (10 ms at the first packet after a rest).
    movl $32, %eax
    movl %eax, %ss
    movq $__stack_top, %rsp
    // QEMU remembers 256 translations of addresses, 64 where the start took over 100 ms, each page in
    // the one place that its number gives, and doubles them at a flush that finds over 70 % in use.
    // The beginnings of two cards' buffers then push each other out. So 48, 96, 192 and 384 pages of
    // 512 MiB on are looked at, which are all one and not written; there is room for 1,024 afterwards.
    movl $idt, %edi             // not yet in use
    movabsq $0x8000000000000001 + pml4, %rax
    movl $512, %ecx
    rep stosq
    movq pd_low + 256 * 8, %rbx
    movq $idt + 1, pd_low + 256 * 8
    movl $48, %edx
1:  movl $0x20000000, %r8d
    movl %edx, %ecx
2:  testb %al, (%r8)
    addl $0x1000, %r8d
    decl %ecx
    jnz 2b
    movq %cr3, %rax
    movq %rax, %cr3
    addl %edx, %edx
    cmpl $384, %edx
    jbe 1b
    movq %rbx, pd_low + 256 * 8
    movq %rax, %cr3
    // A stack of their own for traps: that of the machine may be what is wrong.
    leaq tss(%rip), %rax
    movq $__trap_stack_top, 36(%rax)
    movw $104, 102(%rax)
    leaq gdt + 16(%rip), %rdi
    movw $103, (%rdi)
    movw %ax, 2(%rdi)
    movl %eax, %edx
    shrl $16, %edx
    movb %dl, 4(%rdi)
    movb $0x89, 5(%rdi)
    movb %dh, 7(%rdi)
    movl $16, %eax
    ltr %ax
    // Traps: 32 gates for stubs of 16 octets; then interrupts, which only wake.
    leaq trap_stubs(%rip), %rax
    leaq idt(%rip), %rdi
    movw $0x8e01, %r8w
    movl $32, %ecx
1:  call set_gate
    addq $16, %rax
    decl %ecx
    jnz 1b
    leaq wake(%rip), %rax
    movw $0x8e00, %r8w
    movl $224, %ecx
1:  call set_gate
    decl %ecx
    jnz 1b
    lidt idt_pointer(%rip)
    movl %esi, %edi
    xorl %ebp, %ebp
    call machine_main
1:  cli
    hlt
    jmp 1b

set_gate:                       // rax: handler, r8: kind and stack, rdi: gate, moved on
    movw %ax, (%rdi)
    movw $8, 2(%rdi)
    movw %r8w, 4(%rdi)
    movq %rax, %rdx
    shrq $16, %rdx
    movw %dx, 6(%rdi)
    shrq $16, %rdx
    movl %edx, 8(%rdi)
    movl $0, 12(%rdi)
    addq $16, %rdi
    ret

    .balign 16
trap_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
    nop
    nop
    .else
    pushq $0
    .endif
    movl $vector, %edi
    jmp trap
    .set vector, vector + 1
    .endr
    .balign 16
trap:
    movq 8(%rsp), %rsi          // where it happened
    movq (%rsp), %rdx           // error code
    movq %cr2, %rcx
    movq $__trap_stack_top, %rsp
    call machine_trap
    movb $101, %al              // an abort: the port of isa-debug-exit
    outb %al, $0xf4
1:  cli
    hlt
    jmp 1b

wake:
    pushq %rax
    movl $0xfee000b0, %eax
    movl $0, (%rax)
    popq %rax
    iretq

    // The runtime's names, which Swift does not let us define.
    .globl posix_memalign, free
posix_memalign:
    jmp machine_allocate
free:
    jmp machine_free

    // System V calls; %rdi, %rsi, %rdx.
    .section .text.memcpy, "ax", @progbits
    .globl memcpy
memcpy:
    movq %rdi, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
    rep movsb
    ret

    .section .text.memmove, "ax", @progbits
    .globl memmove
memmove:
    movq %rdi, %rax
    subq %rsi, %rax
    cmpq %rdx, %rax
    jae memcpy
    movq %rdi, %rax
    leaq -1(%rdi, %rdx), %rdi
    leaq -1(%rsi, %rdx), %rsi
    movq %rdx, %rcx
    std
    rep movsb
    cld
    ret

    .section .text.memset, "ax", @progbits
    .globl memset
memset:
    movq %rdi, %r8
    movzbl %sil, %eax
    movabsq $0x0101010101010101, %rcx
    imulq %rcx, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep stosq
    movl %edx, %ecx
    andl $7, %ecx
    rep stosb
    movq %r8, %rax
    ret

    .section .text.memcmp, "ax", @progbits
    .globl memcmp
memcmp:
    xorl %eax, %eax
    movq %rdx, %rcx
    cmpq %rcx, %rcx             // equal where nothing is compared
    repe cmpsb
    je 1f
    movzbl -1(%rdi), %ecx
    movzbl -1(%rsi), %eax
    subl %ecx, %eax
1:  ret

    .section .data.gdt, "aw", @progbits
    .balign 8
gdt:
    .quad 0
    .quad 0x00af9b000000ffff    // code, 64 bits
    .quad 0, 0                  // the task's state, which the processor marks as in use
    .quad 0x00cf93000000ffff    // data, for the stack
    .section .rodata, "a", @progbits
    .balign 8
gdt_pointer:
    .word 39
    .quad gdt
idt_pointer:
    .word 4095
    .quad idt

    // kernel.ld begins a page here; an alignment of the section would pad the file.
    .section .bss.tables, "aw", @nobits
pml4:    .skip 4096
pdpt:    .skip 4096
pd_low:  .skip 4096
pd_high: .skip 4096
pt_low:  .skip 4096
idt:     .skip 4096
tss:     .skip 112
    .section .note.GNU-stack, "", @progbits
