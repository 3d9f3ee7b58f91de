import Functions
import Machine

@c(machine_main)
public func main(_ start: UInt64) {
  Machine.prepare(start: start)
  Machine.run(Pipeline(), start: start)
}
