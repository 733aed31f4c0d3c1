# Runs one program inside the confined interpreter; started by child.rs as `python -c`, with the socket's number as its argument.
#
# The token proves that the program ran to its end. It is read as the first of the two buffers of one os.writev call, while the program
# runs as the second: during that time only the C code of the call holds it, no frame, no name and no container, so nothing that Python
# shows of itself leads there. An exception, sys.exit or os._exit leaves the call before anything is written.
import os
import sys


def main(control, read, write, writev, leave, stdout, run):
    def sandbox_hook(event, arguments):
        # What would show or skip the end: a tracer can jump over the checks, ctypes can read the interpreter's memory, a second
        # interpreter would have no hook, the garbage collector knows the list that this hook is in. Nor can its own code be replaced: it is
        # known by the name in its code object, which cannot be changed. Names that the program can replace only change which exception
        # it gets.
        if (
            event in ("sys.settrace", "cpython.PyInterpreterState_New")
            or event.startswith(("ctypes.", "gc.get_"))
            or (event == "object.__setattr__" and arguments[1] == "__code__" and arguments[0].__code__.co_name == "sandbox_hook")
        ):
            raise PermissionError(event + " is not available in the sandbox")

    def source():
        left = int(read(control, 8), 16)
        pieces = []
        while left:
            piece = read(control, left)
            if not piece:
                leave(3)
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces).decode("utf-8")

    class Buffers:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            if index == 0:
                return read(control, 32)
            # An empty namespace, as the references use: `__name__` is then "builtins", and no `if __name__ == "__main__"` runs.
            run(code, {})
            for stream in (stdout, sys.stdout):
                try:
                    stream.flush()
                except Exception:
                    pass
            return b""

    text = source()
    sys.addaudithook(sandbox_hook)
    write(control, b"R")
    try:
        code = compile(text, "<program>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # ValueError: null bytes, before 3.12
        write(control, b"S")
        leave(1)
    except MemoryError:
        write(control, b"M")
        leave(1)
    except BaseException:
        write(control, b"E")
        leave(1)
    del text
    try:
        writev(control, Buffers())
    except AssertionError:
        write(control, b"A")
    except MemoryError:
        write(control, b"M")
    except SystemExit:
        write(control, b"Q")
    except BaseException:
        write(control, b"E")
    else:
        leave(0)
    leave(1)


control = int(sys.argv[1])
sys.argv[:] = [""]
sys.path[:] = [folder for folder in sys.path if folder]
main(control, os.read, os.write, os.writev, os._exit, sys.stdout, exec)
