// A library without functions to call: loaded into a program by LD_PRELOAD, it makes that program a
// zygote (see zygote.c).
