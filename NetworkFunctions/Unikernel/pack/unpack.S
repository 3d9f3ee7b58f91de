// The image as it is stored: unpacks the machine's image (main.swift beside this) and begins it as
// PVH would have. All is 32-bit, paging off; nothing of this is needed afterwards.

    .section .note.Xen, "a", @note
    .long 4, 4, 18              // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .long unpack

    .section .text, "ax", @progbits
    .code32
    .globl unpack
unpack:
    cld
    movl %ebx, %ebp             // hvm_start_info
    movl $packed, %esi
    movl $BASE, %edi
next:
    lodsb                       // how many literals; how long the match is
    movzbl %al, %edx
    movl %edx, %ecx
    andl $15, %edx
    shrl $4, %ecx
    cmpl $15, %ecx
    jne 2f
1:  movzbl (%esi), %ebx
    incl %esi
    addl %ebx, %ecx
    cmpb $255, %bl
    je 1b
2:  rep movsb
    cmpl $packed_end, %esi
    jae 5f
    xorl %eax, %eax
    lodsw                       // how far back
    cmpl $15, %edx
    jne 4f
3:  movzbl (%esi), %ebx
    incl %esi
    addl %ebx, %edx
    cmpb $255, %bl
    je 3b
4:  leal 4(%edx), %ecx
    movl %esi, %edx
    movl %edi, %esi
    subl %eax, %esi
    rep movsb                   // octet for octet, as it may run into itself
    movl %edx, %esi
    jmp next
5:  movl $END, %ecx
    subl %edi, %ecx
    xorl %eax, %eax
    rep stosb
    movl %ebp, %ebx
    movl $ENTRY, %eax
    jmp *%eax

    .balign 4
packed:
    .incbin PACKED
packed_end:
    .section .note.GNU-stack, "", @progbits
