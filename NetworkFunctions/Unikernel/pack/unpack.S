// The image as it is stored: unpacks the machine's image (main.swift beside this) and begins it as
// PVH would have. All is 32-bit, paging off; nothing of this is needed afterwards.

    .section .note.Xen, "a", @note
    .long 4, 4, 18              // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long unpack

// The next bit into the carry. Those that are left stand in %dl, and behind them a 1.
.macro bit
    addb %dl, %dl
    jnz 9f
    movb (%esi), %dl
    incl %esi
    adcb %dl, %dl
9:
.endm

// A number into %ecx, of which the carry has the first bit.
.macro number
    movl $1, %ecx
    jc 8f
7:  bit
    adcl %ecx, %ecx
    bit
    jnc 7b
8:
.endm

    .section .text, "ax", @progbits
    .code32
    .globl unpack
unpack:
    cld
    movl %ebx, %ebp             // hvm_start_info
    movl $packed, %esi
    movl $BASE, %edi
    movb $0x80, %dl
literals:
    bit
    number
    rep movsb
    cmpl $BASE + COUNT, %edi
    jae targets
    bit
    jc match
    bit                         // as far back as the one before
    number
copy:
    movl %esi, %eax
    movl %edi, %esi
    subl %ebx, %esi
    rep movsb                   // octet for octet, as it may run into itself
    movl %eax, %esi
    cmpl $BASE + COUNT, %edi
    jae targets
    bit
    jnc literals
match:
    bit
    number
    decl %ecx
    shll $7, %ecx
    movzbl (%esi), %eax
    incl %esi
    shrl %eax                   // the first bit of the length
    leal 1(%eax, %ecx), %ebx
    number
    incl %ecx
    jmp copy

// Calls and jumps have distances again. One that is none stands behind the last octet.
targets:
    movl $BASE, %esi
    movb $0xe8, (%edi)
1:  movb (%esi), %al
    incl %esi
    andb $0xfe, %al
    cmpb $0xe8, %al
    jne 1b
    cmpl $BASE + COUNT - 4, %esi
    ja 2f
    movl (%esi), %eax
    bswapl %eax
    subl %esi, %eax
    addl $BASE + 1, %eax
    movl %eax, (%esi)
    addl $4, %esi
    jmp 1b

2:  movl $END, %ecx
    subl %edi, %ecx
    xorl %eax, %eax
    rep stosb
    movl %ebp, %ebx
    movl $ENTRY, %eax
    jmp *%eax

    .balign 4
packed:
    .incbin PACKED
    .section .note.GNU-stack, "", @progbits
