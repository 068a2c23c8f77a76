"""`python -m mi_course` is `mi-course`."""

from mi_course.cli import main

if __name__ == "__main__":
    main()
