internal import CLinux
public import SystemPackage

/// Opens a new tap (Linux, networking/tuntap) in the calling thread's network namespace: whole
/// frames behind a virtio_net_hdr. It is gone with its last descriptor.
///
/// - Throws: EBUSY where a tap of that name is open, ENOENT or ENODEV where the kernel has none.
public func openTap(named name: String) throws(SystemError) -> FileDescriptor {
  let tap = try openFile("/dev/net/tun", .readWrite)
  do throws(SystemError) {
    // IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    try systemCall("TUNSETIFF", name) { CLinux_set_tap(tap.rawValue, name, 0x5002) }
    return tap
  } catch {
    try? tap.close()
    throw error
  }
}
