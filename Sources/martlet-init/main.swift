import GuestInit

// The first process of a virtual machine: prepares it, runs the function, switches it off.
Guest.boot()
