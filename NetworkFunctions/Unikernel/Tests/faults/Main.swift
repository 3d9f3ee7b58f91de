import Boot
import Machine

// Does one thing that must not be, by the first letter of the command line: that the machine stops
// and says where is what `check` looks at.
@c(machine_main)
public func main(_ start: UInt64) {
  Machine.prepare(start: start)
  let code: UInt64 = 0x100000
  switch Boot_load8(UInt64(Boot_load32(start + 24))) {
  case 0x77: Boot_store32(code, 0)  // write to text
  case 0x78: Boot_call(Boot_imageEnd())  // execute data
  case 0x6e: _ = Boot_load32(8)  // null
  case 0x73: _ = descend(1)  // stack
  case 0x68: fillMemory()
  default: break
  }
}

@inline(never)
func descend(_ depth: UInt64) -> UInt64 {
  guard depth < 1 << 32 else { return 0 }
  return descend(depth &+ 1) &+ UInt64(Boot_load32(0x100000)) &+ depth
}

@inline(never)
func fillMemory() {
  var all: [[UInt8]] = []
  while true { all.append([UInt8](repeating: 1, count: 1 << 16)) }
}
