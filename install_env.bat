@echo off
rem Step 0 on Windows: the environment, in .venv; the same as install_env.sh does elsewhere.
rem
rem Run     double-click this file (again at any time; quick when nothing changed)
rem Then    open a terminal in this folder and type .venv\Scripts\activate
setlocal
cd /d "%~dp0"
set "INSTALLED=.venv\Scripts\python.exe"
set "STAMP=.venv\requirements.installed"
set "WANTED=.venv\requirements.wanted"
copy /b /y requirements.lock+requirements-torch.lock "%WANTED%" >nul 2>nul
fc /b "%WANTED%" "%STAMP%" >nul 2>nul && goto check
if exist "%INSTALLED%" goto install

set "FOUND="
for %%V in (3.11 3.12 3.13 3.14) do py -%%V -c "" >nul 2>nul && set "FOUND=py -%%V"
if defined FOUND goto make
python -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))" >nul 2>nul && set "FOUND=python"
if defined FOUND goto make
echo No Python 3.11 to 3.14 was found: install one from https://www.python.org/downloads
echo (tick "Add python.exe to PATH" in its first window), and run this file again.
goto failed

:make
echo Creating .venv with %FOUND%
%FOUND% -m venv .venv && goto install
echo The environment could not be made: remove the folder .venv, and run this file again.
goto failed

:install
echo Installing the packages: this takes some minutes
"%INSTALLED%" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock -r requirements-torch.lock && goto installed
echo pip could not install the packages of the lock files: see above. If a path is too long, move this folder nearer to C:\
goto failed

:installed
copy /b /y requirements.lock+requirements-torch.lock "%STAMP%" >nul

:check
nvidia-smi >nul 2>nul || goto ready
"%INSTALLED%" -c "import sys, torch; sys.exit(not torch.cuda.is_available())" 2>nul && goto ready
rem CUDA 13 needs a driver from 580 on and a GPU from GTX 16 on: the sources are in install_env.sh
set "CUDA=13.0"
for /f "delims=." %%D in ('nvidia-smi --query-gpu^=driver_version --format^=csv^,noheader') do if %%D LSS 580 set "CUDA=12.6"
for /f "delims=." %%C in ('nvidia-smi --query-gpu^=compute_cap --format^=csv^,noheader') do if %%C LSS 7 set "CUDA=12.6"
echo.
echo WARNING: models run on the CPU, as torch does not use the GPU. pip brings one for the CPU. A torch
echo for CUDA %CUDA%, in the version that requirements.txt names, comes by the command of
echo https://pytorch.org/get-started/locally (first type .venv\Scripts\activate in a terminal here)

:ready
echo.
echo The environment is ready in .venv. What is next:
echo 1. Type cmd into the address bar of this folder's window and press Enter: a terminal opens.
echo 2. In the terminal, type .venv\Scripts\activate
echo 3. Run the steps of README.md, beginning with python excel_2_csv.py --help
pause
exit /b 0

:failed
pause
exit /b 1
