import Boot

/// Words for whoever looks at the machine from outside: QEMU's debug console and, for other
/// monitors, the first serial port.
enum Console {
  @inline(never)
  static func write(_ text: StaticString) {
    for index in 0..<text.utf8CodeUnitCount { put((text.utf8Start + index).pointee) }
  }

  @inline(never)
  static func write(hexadecimal value: UInt64) {
    write("0x")
    for shift in stride(from: UInt64(60), through: 0, by: -4) {
      let digit = UInt8(truncatingIfNeeded: value >> shift & 15)
      put(digit < 10 ? 0x30 + digit : 0x57 + digit)
    }
  }

  @inline(never)
  static func write(_ value: UInt64) {
    if value >= 10 { write(value / 10) }
    put(0x30 + UInt8(truncatingIfNeeded: value % 10))
  }

  private static func put(_ octet: UInt8) {
    Boot_out8(0xe9, octet)
    Boot_out8(0x3f8, octet)
  }
}

/// Says why the machine does not go on, and ends it.
@inline(never)
func halt(_ reason: StaticString, isFailure: Bool = true) -> Never {
  Console.write("martlet: ")
  Console.write(reason)
  Console.write("\n")
  Boot_stop(isFailure ? 101 : 1)
  while true {}
}

@c(machine_trap)
public func trap(_ vector: UInt64, _ place: UInt64, _ code: UInt64, _ address: UInt64) {
  Console.write("martlet: trap ")
  Console.write(vector)
  Console.write(" at ")
  Console.write(hexadecimal: place)
  Console.write(", code ")
  Console.write(hexadecimal: code)
  Console.write(", address ")
  Console.write(hexadecimal: address)
  Console.write("\n")
}
