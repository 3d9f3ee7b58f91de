internal import LinuxSystem
internal import SystemPackage

/// Loads rules in a namespace by the `nft` program, all or none. Tables and chains are made so, off
/// the way of any port; elements of sets go by netlink.
/// - Throws: with what `nft` said where it refuses them.
func loadRules(
  _ rules: String, by nft: String, in namespace: NetworkNamespace
) throws(SystemError) {
  let (input, output) = try makePipe()
  defer { try? input.close() }
  do throws(SystemError) {
    try writeAll(Array(rules.utf8), to: output, "nft")
  } catch {
    try? output.close()
    throw error
  }
  try? output.close()
  let result = try namespace.run { () throws(SystemError) in
    try runProgram(nft, arguments: [nft, "-f", "-"], input: input)
  }
  guard result.status == 0 else {
    throw SystemError(
      call: "nft", errno: .invalidArgument,
      subject: String(decoding: result.output, as: UTF8.self))
  }
}

/// Writes values below /proc/sys/net of the calling thread's network namespace. What its kernel
/// does not have, such as IPv6 or bridge-nf-call, needs no value.
func writeSysctls(_ values: [(name: String, value: String)]) throws(SystemError) {
  for (name, value) in values {
    do throws(SystemError) {
      try writeFile("/proc/sys/net/\(name)", value)
    } catch  where error.errno == .noSuchFileOrDirectory {}
  }
}

extension NetlinkMessage.NetfilterSet {
  /// A set of a table of the family `inet` (NFPROTO_INET).
  static func inet(_ table: String, _ name: String) -> Self {
    Self(family: 1, table: table, name: name)
  }
}

/// An interface's name as the key of a set: 16 octets.
func interfaceKey(_ name: String) -> [UInt8] {
  Array(name.utf8) + [UInt8](repeating: 0, count: 16 - name.utf8.count)
}
