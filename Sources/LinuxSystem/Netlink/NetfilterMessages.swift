internal import SystemPackage

/// Requests of nfnetlink to nftables that are on the way of a port: elements of named sets, and a chain
/// without rules. Tables and rules of a fabric are made once, by the `nft` program.
extension NetlinkMessage {
  public struct NetfilterSet: Sendable, Hashable {
    /// NFPROTO_BRIDGE is 7.
    public var family: UInt8
    public var table: String
    public var name: String

    public init(family: UInt8, table: String, name: String) {
      self.family = family
      self.table = table
      self.name = name
    }
  }

  /// A batch that adds or deletes set elements, all or none.
  /// - Parameter keys: by set; each part of a key padded to a multiple of 4 octets.
  public static func setElements(
    _ keys: [(set: NetfilterSet, key: [UInt8])], isDeletion: Bool
  ) -> [Self] {
    // `struct nfgenmsg`: the resource is the subsystem nftables, in network order.
    var batch = [Self(type: 0x10, fixed: [0, 0, 0, 10])]
    for (set, key) in keys {
      var message = Self(
        type: 10 << 8 | (isDeletion ? 14 : 12), flags: isDeletion ? 0 : 0x400,
        fixed: [set.family, 0, 0, 0])
      message.attribute(1, set.table)
      message.attribute(2, set.name)
      message.nested(3 | 0x8000) { list in
        list.nested(1 | 0x8000) { element in
          element.nested(1 | 0x8000) { $0.attribute(1, key) }
        }
      }
      batch.append(message)
    }
    batch.append(Self(type: 0x11, fixed: [0, 0, 0, 10]))
    return batch
  }

  /// A batch that makes a table of the family netdev with one chain, which drops what comes in through
  /// these interfaces (nft(8), "netdev address family"). Packet sockets have seen it before that.
  public static func dropReceived(table: String, interfaces: [String]) -> [Self] {
    let create: UInt16 = 0x400
    // NFPROTO_NETDEV is 5.
    var newTable = Self(type: 10 << 8, flags: create, fixed: [5, 0, 0, 0])
    newTable.attribute(1, table)
    var chain = Self(type: 10 << 8 | 3, flags: create, fixed: [5, 0, 0, 0])
    chain.attribute(1, table)
    chain.attribute(3, "input")
    chain.nested(4 | 0x8000) { hook in
      // Ingress is hook 0; its priority does not matter, as it is alone.
      hook.attribute(1, UInt32(0))
      hook.attribute(2, UInt32(0))
      hook.nested(4 | 0x8000) { devices in
        for interface in interfaces { devices.attribute(1, interface) }
      }
    }
    // The policy NF_DROP is 0.
    chain.attribute(5, UInt32(0))
    chain.attribute(7, "filter")
    return [
      Self(type: 0x10, fixed: [0, 0, 0, 10]), newTable, chain,
      Self(type: 0x11, fixed: [0, 0, 0, 10]),
    ]
  }
}

extension NetlinkSocket {
  /// Has the kernel drop what comes in through interfaces, once packet sockets have seen it.
  public func dropReceived(table: String, interfaces: [String]) throws(SystemError) {
    try requestBatch(NetlinkMessage.dropReceived(table: table, interfaces: interfaces))
  }

  /// Adds elements to sets; those that are there already are no error.
  public func add(
    _ keys: [(set: NetlinkMessage.NetfilterSet, key: [UInt8])]
  ) throws(SystemError) {
    guard !keys.isEmpty else { return }
    try requestBatch(NetlinkMessage.setElements(keys, isDeletion: false))
  }

  /// Removes elements; those that are not there are no error.
  public func remove(
    _ keys: [(set: NetlinkMessage.NetfilterSet, key: [UInt8])]
  ) throws(SystemError) {
    // One by one: in a batch the first that is not there would keep all others.
    for key in keys {
      do throws(SystemError) {
        try requestBatch(NetlinkMessage.setElements([key], isDeletion: true))
      } catch  where error.errno == .noSuchFileOrDirectory {}
    }
  }
}
